"""The Ray cluster a run works on, and what is put into its memory once."""

import os
import re
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # not in its stubs
from ray.exceptions import RayError

import sweep
from sweep.actors.address import cluster_address, folder_for_ray, folder_of_ray
from sweep.errors import InputError, SweepError, WorkError
from sweep.lrp import Network
from sweep.plan import Plan
from sweep.stages import STAGES, columns_of
from sweep.stages.loaded import Context, Reference
from sweep.stages.memory import worker_bytes
from sweep.storage.store import Store

WITHOUT_METRICS = {
    "RAY_enable_metrics_collection": "0",
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}
"""Without these, Ray 2.60 serves its metrics to whoever asks, on all addresses and without a token.

Two of its servers know no switch, but Ray does without them where their port cannot exist.
"""


@contextmanager
def cluster(address: str | None) -> Iterator[bool]:
    """Connect to the cluster at `address` (or RAY_ADDRESS), or start Ray on this machine; leave it at the end.

    Gives whether a cluster was joined, which may have more nodes to offer than it has now.
    Raises InputError where no cluster can be joined at the address, WorkError where Ray does not start here.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for name, value in WITHOUT_METRICS.items():
        os.environ.setdefault(name, value)
    # Without an address Ray would join whatever cluster was last started on this machine, and die with it.
    found = cluster_address(address)
    with _token(of_our_own=not found), nullcontext() if found else folder_for_ray():
        try:
            # Ray's workers look for modules in the folder where it is started: in the package's, not in the user's, where a
            # file may have the name of a module.
            with _without_hang_ups(), chdir(Path(sweep.__file__).parents[1]):
                ray.init(
                    address=found or "local",
                    include_dashboard=False,
                    logging_level="ERROR",
                    log_to_driver=False,
                )
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise _refusal(found, error) from None
        try:
            yield found is not None
        finally:
            ray.shutdown()


@contextmanager
def _token(of_our_own: bool) -> Iterator[None]:
    """Decide who may talk to Ray, unless the user has, until the block ends.

    Ray's ports are open to the network, and whoever may use them runs code here. So a Ray of our own takes a token that
    this process and its children know and no file holds; one that Ray wrote would be asked for by later clusters, too.
    A cluster that is joined is taken for one without a token.
    """
    if "RAY_AUTH_MODE" in os.environ:
        yield
        return
    before = os.environ.get("RAY_AUTH_TOKEN")
    os.environ["RAY_AUTH_MODE"] = "token" if of_our_own else "disabled"
    if of_our_own:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    _read_environment()
    try:
        yield
    finally:
        del os.environ["RAY_AUTH_MODE"]
        os.environ.pop("RAY_AUTH_TOKEN", None)
        if before is not None:
            os.environ["RAY_AUTH_TOKEN"] = before
        _read_environment()


def _read_environment() -> None:
    """Let Ray look at its environment again, which it does once when it is imported."""
    AuthenticationTokenLoader.instance().reset_cache()
    Config.initialize("")


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


def _refusal(found: str | None, error: Exception) -> SweepError:
    """What it means that Ray could not be joined at the address `found`, or could not be started here."""
    said = " ".join(f"{error} {error.__cause__ or ''}".split())
    if found is None:
        return WorkError(f"Ray does not start on this machine: {said}; its logs are under {folder_of_ray()}")
    versions = _VERSIONS.search(said)
    if versions:
        theirs, ours = (
            f"Ray {ray_} on Python {python}" for ray_, python in (versions.group(1, 2), versions.group(3, 4))
        )
        return InputError(
            f"the cluster at {found} has {theirs}, this environment {ours}; install the same Ray and Python here as there"
        )
    return InputError(f"the cluster at {found} cannot be joined: {said}")


_VERSIONS = re.compile(r"started with: Ray: (\S+) Python: (\S+) .*started with: Ray: (\S+) Python: (\S+)")
"""How Ray tells of a cluster of other versions."""


def cluster_name() -> str:
    """A name for the connected cluster's machines: their addresses and resources."""
    kept = ("CPU", "GPU")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return repr(
        sorted((n["NodeManagerHostname"], [n["Resources"].get(kind, 0) for kind in kept]) for n in nodes)
    )


def share_context(
    plan: Plan,
    networks: Mapping[str, Network],
    store: Store,
    put: Callable[[Any], Reference] = ray.put,
) -> Context:
    """What all workers of a study share; `put` lays the images and every backbone's weights where they read them."""
    return Context(
        store=store,
        schemas={table: columns_of(plan, table) for stage in STAGES.values() for table in stage.tables},
        image_ids=tuple(plan.images.ids),
        image_keys=plan.images.keys,
        classes={model.cell.task: model.classes for model in plan.models},
        labels={model.cell.task: model.labels for model in plan.models},
        pixels=put(plan.images.pixels),
        networks={name: put(weights) for name, weights in networks.items()},
        preprocessing={name: backbone.weights.preprocessing for name, backbone in plan.backbones.items()},
        convolutions=plan.study.convolutions,
        worker_bytes=worker_bytes(plan, networks) if networks else 0,
    )
