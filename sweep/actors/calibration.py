"""How fast the attached cluster is, found out in some seconds by doing a little of each kind of work."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from sweep.actors.cluster import share_context
from sweep.actors.devices import alive_nodes, shares_of
from sweep.actors.pool import start_worker
from sweep.actors.work import Context
from sweep.errors import WorkError
from sweep.keys import key_of
from sweep.models.weights import Layers
from sweep.plan import Plan
from sweep.stages.cost import Size, Speed
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Store, Unit

SECONDS = 3.0
"""How long each kind of work is repeated."""
_TRIES = 5


def calibrate(plan: Plan, layers: Mapping[str, Layers], size: Size, store: Store) -> Speed:
    """Measure every worker that the cluster's living nodes hold, all at the same time.

    Needs a connected cluster. Raises WorkError where no node offers a CPU.
    """
    began = time.monotonic()
    nodes = alive_nodes()
    workers = [
        start_worker(node, share) for node, resources in nodes.items() for share in shares_of(resources)
    ]
    if not workers:
        raise WorkError("the cluster has no CPU or GPU to measure now; see `ray status`, or use --no-time")
    try:
        ray.get([worker.ready.remote() for worker in workers])
        start_seconds = time.monotonic() - began
        context = [ray.put(share_context(plan, layers, store))]
        backbone = max(zip(size.pass_flops, plan.backbones, strict=True))[1]
        with store.scratch("calibration") as scratch:
            measured = ray.get(
                [
                    worker.measure.remote(context, backbone, scratch, index)
                    for index, worker in enumerate(workers)
                ]
            )
    finally:
        for worker in workers:
            ray.kill(worker)
    heaviest = max(size.pass_flops)
    return Speed(
        pass_flops=heaviest * sum(one["passes_per_second"] for one in measured),
        other_flops=sum(one["other_flops"] for one in measured),
        unit_seconds=float(np.mean([one["unit_seconds"] for one in measured])),
        start_seconds=start_seconds,
        workers=len(workers),
        basis=f"{len(workers)} workers on {len(nodes)} nodes, measured",
    )


def measure(context: Context, evaluator: Any, inputs: Any, scratch: str, index: int) -> dict[str, float]:
    """In a worker: passes per second, floating-point operations per second in training, seconds per stored unit."""
    features = evaluator.features(inputs).numpy()
    n_classes = max(map(len, context.classes.values()))
    return {
        "passes_per_second": _per_second(lambda: evaluator.features(inputs).numpy()) * len(inputs),
        "other_flops": _training_flops(features, n_classes),
        "unit_seconds": 1 / _per_second(_writing(scratch, index)),
    }


def _training_flops(features: Any, n_classes: int) -> float:
    from sweep.numerics.readout import ReadoutTraining
    from sweep.study import Finetune

    images = 512
    held = np.arange(images) % 8 == 0
    training = ReadoutTraining(
        np.resize(features, (images, features.shape[1])),
        np.arange(images) % n_classes,
        held,
        n_classes,
        Finetune(),
        "calibration",
    )
    training.epoch()
    flops = 4.0 * float(images - held.sum()) * features.shape[1] * n_classes
    return float(flops * _per_second(training.epoch))


def _writing(scratch: str, index: int) -> Any:
    store, count = Store(scratch), iter(range(10**9))
    rows = pa.table(
        {
            "model_id": [f"m{index}"] * 1000, "image_id": [f"i{n}" for n in range(1000)], "rank": [1] * 1000,
            "class": [f"c{n % 100}" for n in range(1000)], "logit": np.linspace(0, 1, 1000, dtype=np.float32),
        }
    )  # fmt: skip

    def write() -> None:
        label = f"w{index}.{next(count)}"
        store.write(Unit("predictions", label, key_of(label), 1000), rows, SCHEMAS["predictions"])

    return write


def _per_second(work: Any) -> float:
    """How often `work` is done in a second, after one time that does not count."""
    work()
    began, done = time.monotonic(), 0
    while done < _TRIES and (done == 0 or time.monotonic() - began < SECONDS):
        work()
        done += 1
    return done / (time.monotonic() - began)
