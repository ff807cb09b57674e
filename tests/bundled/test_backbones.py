"""The bundled backbones: VGG-16's topology, small, finite, readable without pickle, and the ones in the model card."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "sweep" / "models" / "bundled"
CARD = ROOT / "docs" / "backbones.md"

BLOCKS = [(2, 16), (2, 32), (3, 64), (3, 128), (3, 128)]
LAYERS = [
    (f"block{block}_conv{convolution}", channels)
    for block, (count, channels) in enumerate(BLOCKS, 1)
    for convolution in range(1, count + 1)
]

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module", params=["objects-small", "faces-small"])
def path(request: pytest.FixtureRequest) -> Path:
    return FOLDER / f"{request.param}.npz"


@pytest.fixture(scope="module")
def arrays(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_thirteen_convolutions_and_nothing_else(arrays: Arrays) -> None:
    expected = {f"{layer}/{part}" for layer, _ in LAYERS for part in ("kernel", "bias")}
    assert set(arrays) == expected | {"preprocessing"}
    assert len(LAYERS) == 13


def test_shapes_chain(arrays: Arrays) -> None:
    channels = 3
    for layer, width in LAYERS:
        assert arrays[f"{layer}/kernel"].shape == (3, 3, channels, width)
        assert arrays[f"{layer}/bias"].shape == (width,)
        channels = width


def test_weights_are_finite_halves(arrays: Arrays) -> None:
    for name, array in arrays.items():
        if name != "preprocessing":
            assert array.dtype == np.float16
            assert np.isfinite(array).all()
            assert array.any(), f"{name} is all zero"


def test_preprocessing_is_declared(arrays: Arrays) -> None:
    assert arrays["preprocessing"].shape == ()
    assert arrays["preprocessing"].dtype.kind == "U"
    declared = json.loads(str(arrays["preprocessing"]))
    assert set(declared) == {"channel_order", "mean", "scale"}
    assert declared["channel_order"] in ("RGB", "BGR")
    assert len(declared["mean"]) == 3
    assert all(0 <= mean <= 255 for mean in declared["mean"])
    assert declared["scale"] > 0


def test_size_stays_within_its_limit(path: Path) -> None:
    assert path.stat().st_size <= 2_000_000


def test_the_card_describes_this_file(path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() in CARD.read_text(encoding="utf-8")


def test_features_are_alive(arrays: Arrays) -> None:
    """On noise, every layer stays finite and a good part of the last features is active."""
    declared = json.loads(str(arrays["preprocessing"]))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3))
    grid = np.kron(pixels[:, ::8, ::8], np.ones((1, 8, 8, 1)))
    x = ((grid - np.array(declared["mean"])) * declared["scale"]).astype(np.float32)
    names = iter(layer for layer, _ in LAYERS)
    for count, _ in BLOCKS:
        for _ in range(count):
            name = next(names)
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
            kernel = arrays[f"{name}/kernel"].astype(np.float32)
            x = np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True)
            x = np.maximum(x + arrays[f"{name}/bias"].astype(np.float32), 0)
        images, height, width, channels = x.shape
        x = x.reshape(images, height // 2, 2, width // 2, 2, channels).max((2, 4))
    assert x.shape == (8, 2, 2, 128)
    assert np.isfinite(x).all()
    assert (x.reshape(8, -1) > 0).any(0).mean() > 0.3
