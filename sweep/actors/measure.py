"""How fast one worker is, found out in some seconds by doing a little of each kind of work."""

import time
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.keys import key_of
from sweep.stages.loaded import Context
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Store, Unit

SECONDS = 3.0
"""How long each kind of work is repeated."""
_TRIES = 5


def measure(context: Context, evaluator: Any, inputs: Any, scratch: str, index: int) -> dict[str, float]:
    """Measure passes per second, floating-point operations per second in training, seconds per stored unit."""
    features = evaluator.features(inputs).numpy()
    n_classes = max(map(len, context.classes.values()))
    return {
        "passes_per_second": _per_second(lambda: evaluator.features(inputs).numpy()) * len(inputs),
        "other_flops": _training_flops(features, n_classes),
        "unit_seconds": 1 / _per_second(_writing(scratch, index)),
    }


def _training_flops(features: Any, n_classes: int) -> float:
    from sweep.numerics.readout import Examples, ReadoutTraining
    from sweep.study import Finetune

    images = 512
    held = np.arange(images) % 8 == 0
    examples = Examples(np.resize(features, (images, features.shape[1])), np.arange(images) % n_classes, held)
    training = ReadoutTraining(examples, n_classes, Finetune(), "calibration")
    training.epoch()
    flops = 4.0 * float(images - held.sum()) * features.shape[1] * n_classes
    return float(flops * _per_second(training.epoch))


def _writing(scratch: str, index: int) -> Any:
    store, count = Store(scratch), iter(range(10**9))
    rows = pa.table(
        {
            "model_id": [f"m{index}"] * 1000,
            "image_id": [f"i{n}" for n in range(1000)],
            "rank": [1] * 1000,
            "class": [f"c{n % 100}" for n in range(1000)],
            "logit": np.linspace(0, 1, 1000, dtype=np.float32),
        }
    )

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
