"""Model files that others' code wrote, each through a whole small study or refused in one line."""

import warnings
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from sweep.arrays import Array
from sweep.lrp import forward
from sweep.plan import make_plan
from sweep.stages import finetune, masking, relevance
from sweep.storage.store import Store
from tests.in_process import load, run_in_process
from tests.models.test_torchvision import LAYOUTS, write
from tests.studies import SmallStudy, sweep

INPUT = {"channel_order": "RGB", "mean": [127.5, 127.5, 127.5], "scale": 1 / 127.5}
FACES = {"channel_order": "RGB", "mean": [122.782, 117.001, 104.298], "scale": 1 / 256}


def application(path: Path, name: str, size: int, **settings: Any) -> None:
    """A network of keras.applications with random weights and statistics, saved by Keras."""
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), **settings)
    draws = np.random.default_rng(2)
    for weight in (weight for layer in model.layers for weight in layer.weights):
        if "kernel" in weight.path:
            # As wide as He et al. draw them: with less, hundreds of layers leave nothing of the image.
            fan_in = prod(weight.shape[:2] if "depthwise" in weight.path else weight.shape[:-1])
            weight.assign(draws.normal(0, np.sqrt(2 / fan_in), weight.shape))
        elif "beta" in weight.path or "mean" in weight.path:
            weight.assign(draws.uniform(-0.1, 0.1, weight.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras 3.15 on NumPy 2
        model.save(path)


def mobile(folder: Path) -> dict[str, Any]:
    application(folder / "mobile.keras", "MobileNetV2", 32, alpha=0.35, classes=5)
    return {"weights": "keras:mobile.keras", **INPUT}


def dense(folder: Path) -> dict[str, Any]:
    application(folder / "dense.h5", "DenseNet121", 32, classes=5)
    return {"weights": "keras:dense.h5", **INPUT}


def residual(folder: Path) -> dict[str, Any]:
    application(folder / "residual.keras", "ResNet50V2", 32, classes=5)
    return {"weights": "keras:residual.keras", "features": "conv4_block6_out", **INPUT}


def torchvision(name: str) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        write(folder / "net.safetensors", LAYOUTS[name]()[0])
        return {"weights": "torchvision:net.safetensors"}

    return make


@pytest.mark.parametrize(
    ("make", "size"),
    [
        pytest.param(mobile, 32, id="MobileNetV2"),
        pytest.param(dense, 32, id="DenseNet121"),
        pytest.param(residual, 32, id="ResNet50V2"),
        pytest.param(torchvision("ResNet-50"), 32, id="torchvision ResNet"),
        pytest.param(torchvision("AlexNet"), 64, id="torchvision AlexNet"),
    ],
)
def test_a_whole_study_runs(
    small_study: SmallStudy, tmp_path: Path, make: Callable[[Path], dict[str, Any]], size: int
) -> None:
    check_study(small_study, tmp_path, make(tmp_path), size)


@pytest.mark.shared_data
def test_a_whole_study_runs_on_a_network_that_knows_faces(
    small_study: SmallStudy, tmp_path: Path, shared: Path
) -> None:
    check_study(
        small_study,
        tmp_path,
        {"weights": f"keras:{shared / 'weights' / 'faces_resnet29.keras'}", **FACES},
        150,
    )


def check_study(study: SmallStudy, folder: Path, level: dict[str, Any], size: int) -> None:
    """From features to masks, with the untrained twin beside it: every row is there, and masked answers are the network's."""
    twin = level | {"weights": f"random:1:{level['weights']}"}
    plan = make_plan(
        study.changed(
            dataset={"input_size": size},
            factors={"pretraining": {"net": level, "twin": twin}, "task": ["identity"], "seed": [1]},
            masking={"percents": [0, 10], "controls": []},
        ).path
    )
    store = Store(str(folder / "results"))
    run_in_process(plan, store)
    images = list(plan.selected)
    for model in plan.models:
        maps = store.read([relevance.units(plan)[model.id, 0]]).to_pylist()
        assert len(maps) == len(images)
        assert np.isfinite([row["max_abs"] for row in maps]).all()
        assert any(row["max_abs"] > 0 and np.std(row["map"]) > 0 for row in maps)
    rows = [row for units in masking.units(plan).values() for row in store.read(units).to_pylist()]
    assert len(rows) == len(plan.models) ** 2 * 2 * len(images)
    # Unmasked, the answers are those of the network that the file holds, with the readout that was trained.
    networks = plan.load_networks()
    for model in plan.models:
        found = readout(plan, store, model)
        inputs = plan.backbones[model.cell.pretraining].weights.preprocessing(plan.images.pixels[images])
        logits = (
            forward(networks[model.cell.pretraining], inputs).reshape(len(images), -1) @ found[0] + found[1]
        )
        wanted = {plan.images.ids[i]: model.classes[k] for i, k in zip(images, logits.argmax(1), strict=True)}
        own = [row for row in rows if row["destination_id"] == model.id and row["percent"] == 0]
        assert {row["image_id"]: row["predicted_class"] for row in own} == wanted


def readout(plan: Any, store: Store, model: Any) -> tuple[Array, Array]:
    """Kernel and bias of a trained readout."""
    found = load(plan, store).readout(finetune.refer(plan, model))
    return found.kernel, found.bias


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("EfficientNetB0", "(Normalization) is of a kind that cannot be treated"),
        ("MobileNetV3Small", "has the activation"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    small_study: SmallStudy, tmp_path: Path, name: str, words: str
) -> None:
    application(tmp_path / "other.keras", name, 32, classes=5)
    small_study.changed(factors={"pretraining": {"net": {"weights": "keras:other.keras", **INPUT}}})
    refused = sweep("plan", "study.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("sweep: ")]
    assert words in line
    assert "layer '" in line
    assert line.endswith("name an earlier layer in features, or save the model without it")
