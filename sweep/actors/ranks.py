"""The order in which a source's pixels are removed, ranked once and put into the object store for all workers."""

from collections.abc import Sequence
from typing import Any

import ray

from sweep.arrays import matrix
from sweep.masking import Order, random_ranks, removal_ranks
from sweep.store import Store, Unit


def share_map_ranks(store: Store, maps: Sequence[Unit], order: Order) -> "ray.ObjectRef[Any]":
    """Ranks int32 (image, pixel) of the stored maps of one source, computed by whichever node has time."""
    return _beside_the_workers(_map_ranks).remote(store, list(maps), order)


def share_random_ranks(mask: str, image_keys: Sequence[str], pixels: int) -> "ray.ObjectRef[Any]":
    """Ranks of the control `mask` ('random-k')."""
    return _beside_the_workers(random_ranks).remote(mask, tuple(image_keys), pixels)


def _beside_the_workers(function: Any) -> Any:
    """A Ray task that asks for no CPU: the workers hold them all, and ranking is a hundredth of their work."""
    return ray.remote(num_cpus=0)(function)


def _map_ranks(store: Store, maps: list[Unit], order: Order) -> Any:
    return removal_ranks(matrix(store.read(maps, columns=["map"])["map"]), order)
