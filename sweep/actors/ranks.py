"""The order in which a source's pixels are removed, ranked once and put into the object store for all workers.

Actors of their own rank, one per node, beside the workers and without a CPU of their own: ranking is a hundredth of
the workers' work. Tasks would do as well but for this: Ray ends processes that idle while the workers hold all CPUs,
so every source would wait for a process to start.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from sweep.actors.nodes import Nodes
from sweep.actors.root import Token, check_root
from sweep.numerics.controls import blocks, mask_ranks
from sweep.numerics.finite import check_finite
from sweep.numerics.masking import Ranking, random_ranks
from sweep.storage.arrays import matrix
from sweep.storage.store import Store, Unit

RETRIES = 2
"""How often ranking is tried again that ended with its process."""


class Rankers:
    """Ranks for one stage; the actors end once this is gone and what was asked of them is done."""

    def __init__(self, nodes: Nodes | None = None) -> None:
        self._nodes = nodes
        self._actors: list[Any] = []
        """Those whose nodes see the store."""
        self._any: Any = None
        """One on whatever node, for what needs no store."""
        self._asked = 0

    def of_maps(self, store: Store, maps: Sequence[Unit], ranking: Ranking) -> "ray.ObjectRef[Any]":
        """Ranks int32 (image, pixel) made from the stored maps of one source."""
        self._nodes = self._nodes or Nodes(store)
        if len(self._actors) < len(self._nodes.usable()):
            self._nodes.probe()
            self._actors.append(_start(self._nodes.selector, self._nodes.token))
        return self._next().of_maps.remote(store, list(maps), ranking)

    def of_random(
        self, mask: str, control: str, image_keys: Sequence[str], size: int
    ) -> "ray.ObjectRef[Any]":
        """Ranks of a control that depends on no source, drawn for `mask` ('random-k', 'blocks-k')."""
        if not self._actors:
            self._any = self._any or _start({}, None)
        return self._next().of_random.remote(mask, control, tuple(image_keys), size)

    def _next(self) -> Any:
        self._asked += 1
        return self._actors[self._asked % len(self._actors)] if self._actors else self._any


def _start(selector: Mapping[str, str], token: Token | None) -> Any:
    # One that is lost starts again elsewhere and ranks again what was lost with it; maps that kill it are given up, and
    # with them the pieces of work that wait for their ranks.
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": RETRIES}
    where = {"scheduling_strategy": "SPREAD", "label_selector": dict(selector)}
    return ray.remote(**options, **where)(_Ranker).remote(token)


class _Ranker:
    """The actor itself."""

    def __init__(self, token: Token | None) -> None:
        if token is not None:
            check_root(token)

    def of_maps(self, store: Store, maps: Sequence[Unit], ranking: Ranking) -> Any:
        rows = store.read(maps, columns=["model_id", "image_id", "map"])
        source, images = rows["model_id"][0].as_py(), rows["image_id"].to_pylist()
        values = matrix(rows["map"])
        check_finite(values, f"stored maps of the model {source}", images)
        return mask_ranks(values, ranking, source, images)

    def of_random(self, mask: str, control: str, image_keys: Sequence[str], size: int) -> Any:
        if control == "blocks":
            return blocks(mask, image_keys, (size, size))
        return random_ranks(mask, image_keys, size**2)
