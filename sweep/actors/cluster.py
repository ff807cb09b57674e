"""The Ray cluster a run works on, and what is put into its memory once."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

from sweep.errors import InputError
from sweep.models.weights import Layers
from sweep.plan import Plan
from sweep.stages import STAGES, columns_of
from sweep.stages.loaded import Context
from sweep.stages.memory import worker_bytes
from sweep.storage.store import Store


@contextmanager
def cluster(address: str | None) -> Iterator[bool]:
    """Connect to the cluster at `address` (or RAY_ADDRESS), or start Ray on this machine; leave it at the end.

    Gives whether a cluster was joined, which may have more nodes to offer than it has now.
    Raises InputError where no cluster answers.
    """
    # A local start may otherwise write a token that later clusters on the machine refuse to work without.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        # Without an address Ray would join whatever cluster was last started on this machine, and die with it.
        wanted = address or os.environ.get("RAY_ADDRESS") or "local"
        with _without_hang_ups():
            ray.init(address=wanted, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    except ConnectionError as error:
        raise InputError(
            f"--address {address or os.environ.get('RAY_ADDRESS')}: no Ray cluster answers there: {error}"
        ) from None
    try:
        yield is_joined(address)
    finally:
        ray.shutdown()


@contextmanager
def _without_hang_ups() -> Iterator[None]:
    """Start processes that no closing terminal ends: what they are at is finished first, as the run itself sees to it.

    A hang-up that comes meanwhile reaches this process afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_joined(address: str | None) -> bool:
    """Whether a run joins a cluster that is there, rather than starting Ray on this machine for itself."""
    return bool(address or os.environ.get("RAY_ADDRESS"))


def cluster_name() -> str:
    """A name for the connected cluster's machines: their addresses and resources."""
    kept = ("CPU", "GPU")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return repr(
        sorted((n["NodeManagerHostname"], [n["Resources"].get(kind, 0) for kind in kept]) for n in nodes)
    )


def share_context(plan: Plan, layers: Mapping[str, Layers], store: Store) -> Context:
    """Put the images and every backbone's weights into the object store, for all workers to read."""
    return Context(
        store=store,
        schemas={table: columns_of(plan, table) for stage in STAGES.values() for table in stage.tables},
        image_ids=tuple(plan.images.ids),
        image_keys=plan.images.keys,
        classes={model.cell.task: model.classes for model in plan.models},
        labels={model.cell.task: model.labels for model in plan.models},
        pixels=ray.put(plan.images.pixels),
        layers={name: ray.put(weights) for name, weights in layers.items()},
        preprocessing={name: backbone.weights.preprocessing for name, backbone in plan.backbones.items()},
        worker_bytes=worker_bytes(plan, layers) if layers else 0,
    )
