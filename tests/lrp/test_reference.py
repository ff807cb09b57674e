"""The engine against iNNvestigate itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.errors import InputError, WorkError
from sweep.lrp import (
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool,
    Multiply,
    Network,
    ReLU,
    ZeroPad,
    relevance,
)
from sweep.lrp.network_file import from_bytes, to_bytes
from sweep.lrp.reference import Innvestigate, innvestigate_relevance
from tests.lrp import nets, twin

TOLERANCE = 1e-4
"""Of each map's maximum."""


def rich(seed: int) -> Network:
    """Every kind of layer, behind a padding, which iNNvestigate by itself would stumble over."""
    rng = np.random.default_rng(seed)
    layers = (
        ZeroPad(((1, 0), (2, 1))),
        nets.conv(rng, 3, 5, padding="valid", name="first"),
        ReLU(),
        nets.conv(rng, 5, 6, dilation=(2, 1)),
        ReLU(),
        MaxPool((3, 3), (2, 2), "same"),
        nets.conv(rng, 6, 6, stride=(1, 2)),
        ReLU(),
        AveragePool((2, 2), (2, 2), "same"),
        ZeroPad(((0, 1), (1, 0))),
        nets.conv(rng, 6, 4, (1, 2)),
        Flatten(),
        nets.dense(rng, 48, 7),
        ReLU(),
        Dropout(),
        nets.dense(rng, 7, 4),
    )
    return Network(layers, (13, 10, 3))


def assert_alike(maps: Any, expected: Any) -> None:
    for ours, theirs in zip(maps, expected, strict=True):
        assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()
        if theirs.std() > 0:
            assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] >= 0.99999


@pytest.fixture(scope="module")
def process() -> Iterator[Innvestigate]:
    """One process, which turns to the network of each test."""
    with Innvestigate(nets.small(0)) as made:
        yield made


@pytest.mark.reference
@pytest.mark.parametrize("preset", [*nets.INNVESTIGATE, {"preset": "preset_b_flat_until", "until": 2}])
def test_presets_agree_with_innvestigate(process: Innvestigate, preset: Any) -> None:
    network = rich(4)
    images = np.random.default_rng(0).standard_normal((4, 13, 10, 3)).astype(np.float32)
    images[0] = 0.5  # constant: every pool is a tie
    images[1] = 0
    process.turn_to(network, preset)
    for targets in ("predicted", [1, 0, 3, 2], 1, "all"):
        assert_alike(relevance(network, images, targets, preset), process.relevance(images, targets))


def residual(seed: int) -> Network:
    """Sums of two and three tensors, strided 1x1 shortcuts, pools, channels beside each other, a global pool."""
    rng = np.random.default_rng(seed)
    layers: tuple[Any, ...] = (
        nets.conv(rng, 3, 4, name="first"),
        ReLU(),
        nets.conv(rng, 4, 4),
        ReLU(),
        nets.conv(rng, 4, 4),
        Add(),
        ReLU(),
        nets.conv(rng, 4, 6, stride=(2, 2)),
        nets.conv(rng, 4, 6, (1, 1), stride=(2, 2)),
        AveragePool((2, 2), (2, 2)),
        nets.conv(rng, 4, 6, (1, 1)),
        Add(),
        ReLU(),
        ZeroPad(),
        MaxPool((3, 3), (2, 2)),
        nets.conv(rng, 6, 6, (2, 2)),
        Concatenate(),
        AveragePool((3, 3), (3, 3)),
        Flatten(),
        nets.dense(rng, 12, 4),
    )
    # Tensors 2 and 7 are read by a branch and by a sum; one tensor is not added to itself, which iNNvestigate doubles.
    reads = ((0,), (1,), (2,), (3,), (4,), (5, 2), (6,), (7,), (7,), (7,), (10,), (8, 9, 11), (12,))
    tail = ((13,), (14,), (15,), (15, 16), (17,), (18,), (19,))
    return Network(layers, (12, 12, 3), reads + tail)


def inverted(seed: int) -> Network:
    """Depthwise convolutions, slopes and ends of rectifiers, channels that are scaled, a sum that none follows."""
    rng = np.random.default_rng(seed)
    layers: tuple[Any, ...] = (
        nets.depthwise(rng, 3, 2, name="first"),
        ReLU(max_value=0.7),
        nets.conv(rng, 6, 4, (1, 1)),
        LeakyReLU(np.float32(0.3)),  # type: ignore[arg-type]
        nets.depthwise(rng, 4, 1, stride=(2, 2)),
        LeakyReLU(rng.uniform(0.1, 0.4, 4).astype(np.float32)),
        nets.conv(rng, 4, 4, (1, 1)),
        AveragePool((2, 2), (2, 2)),
        Add(),
        AveragePool((4, 4), (4, 4)),
        nets.conv(rng, 4, 4, (1, 1)),
        Multiply(),
        Flatten(),
        nets.dense(rng, 64, 4),
    )
    reads = ((0,), (1,), (2,), (3,), (4,), (5,), (6,), (4,), (7, 8), (9,), (10,), (9, 11), (12,), (13,))
    return Network(layers, (8, 8, 3), reads)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("build", "seed", "preset"),
    [(residual, 3, "preset_a_flat"), (residual, 6, "preset_b"), (inverted, 6, "preset_a")],
)
def test_graphs_agree_with_innvestigate(process: Innvestigate, build: Any, seed: int, preset: str) -> None:
    network, rng = build(seed), np.random.default_rng(0)
    images = rng.standard_normal((6, *network.input_shape)).astype(np.float32)
    given = {"preset": preset, "kinds": {"add": "z"}}
    maps = relevance(network, images, "predicted", given)
    # Of signed sums the shares have no bound: only maps that hold still when weights move by float32's rounding are held
    # to another program's.
    rules, moved = nets.preset_rules(preset, network), nets.jittered(network, rng)
    pairs = [
        [twin.relevance(net, image, rules, "predicted")[0] for net in (network, moved)] for image in images
    ]
    still = [
        index
        for index, (one, other) in enumerate(pairs)
        if np.abs(one - other).max() < 1e-5 * np.abs(one).max()
    ]
    assert len(still) >= 2
    process.turn_to(network, given)
    assert_alike(maps[still], process.relevance(images, "predicted")[still])


@pytest.fixture(scope="module")
def vgg(shared: Path) -> Network:
    """The real ImageNet VGG-16 convolutions at 224 px, with one random dense layer on top."""
    path = shared / "weights" / "vgg16_imagenet_fp16.npz"
    if not path.exists():
        pytest.skip(f"needs the weights {path}")
    layers: list[Any] = []
    with np.load(path, allow_pickle=False) as weights:
        for block, n_convs in enumerate((2, 2, 3, 3, 3), start=1):
            for index in range(1, n_convs + 1):
                name = f"block{block}_conv{index}"
                layers += [Conv(weights[f"{name}/kernel"], weights[f"{name}/bias"], name=name), ReLU()]
            layers.append(MaxPool())
    readout = nets.dense(np.random.default_rng(0), 7 * 7 * 512, 10)
    return Network((*layers, Flatten(), readout), (224, 224, 3))


@pytest.mark.shared_data
@pytest.mark.reference
@pytest.mark.parametrize("preset", ["preset_a_flat", "preset_b"])
def test_presets_agree_with_innvestigate_on_vgg16(process: Innvestigate, vgg: Network, preset: str) -> None:
    rows, columns = np.mgrid[:224, :224]
    waves = [120 * np.sin(rows / 20 + columns / 31), 120 * np.cos(columns / 13), 100 * np.sin(rows / 9)]
    noise = np.random.default_rng(0).uniform(-100, 130, (224, 224, 3))
    images = np.stack([np.stack(waves, axis=-1), noise]).astype(np.float32)
    process.turn_to(vgg, preset)
    assert_alike(relevance(vgg, images, "predicted", preset), process.relevance(images, "predicted"))


@pytest.mark.reference
def test_settings_of_the_users_change_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nets.small(0)
    images = np.random.default_rng(0).standard_normal((2, *network.input_shape)).astype(np.float32)
    expected = relevance(network, images, [1, 0], "preset_a")
    (tmp_path / ".keras").mkdir()
    settings = {
        "floatx": "float16",
        "image_data_format": "channels_first",
        "epsilon": 1.0,
        "backend": "torch",
    }
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    # Modules of these names are looked for in the working directory by whoever is careless.
    for name in ("scipy.py", "tf_keras.py", "innvestigate.py"):
        (tmp_path / name).write_text("raise SystemExit('not this one')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    assert_alike(expected, innvestigate_relevance(network, images, [1, 0], "preset_a"))


@pytest.mark.parametrize("build", [rich, residual, inverted])
def test_networks_survive_the_journey(tmp_path: Path, build: Any) -> None:
    network = build(1)
    again, settings = from_bytes(to_bytes(network, {"preset": "preset_a"}))
    assert settings == {"preset": "preset_a"}
    assert again.shapes == network.shapes
    assert again.reads == network.reads
    for ours, theirs in zip(network.layers, again.layers, strict=True):
        assert type(ours) is type(theirs)
        for field, value in vars(ours).items():
            np.testing.assert_array_equal(value, getattr(theirs, field))
    assert isinstance(again.layers[-1], Dense)


@pytest.mark.parametrize("preset", ["epsilon_plus", {"preset": "preset_a", "positions": {0: "flat"}}])
def test_other_composites_are_refused(preset: Any) -> None:
    with pytest.raises(InputError, match="iNNvestigate has the presets preset_a, preset_b"):
        Innvestigate(nets.small(0), preset)


@pytest.mark.reference
def test_its_peak_of_memory_is_its_own() -> None:
    held = np.ones(2_500_000_000, np.uint8)
    with Innvestigate(nets.small(0)) as process:
        peak = process.analyze(np.zeros((2, 12, 12, 3), np.float32), 0)["peak"]
    assert 1e8 < peak < held.nbytes


@pytest.mark.reference
def test_failures_are_told(tmp_path: Path) -> None:
    network = nets.small(0)
    images = np.zeros((2, 12, 12, 3), np.float32)
    process = Innvestigate(network)
    with pytest.raises(InputError, match="images: have the shape"):
        process.relevance(images[0], 0)
    with pytest.raises(InputError, match="one class or one per image"):
        process.relevance(images, [1])
    with pytest.raises(InputError, match="class numbers, 'predicted' or 'all'"):
        process.relevance(images, "best")
    with pytest.raises(WorkError, match="iNNvestigate failed"):
        process.relevance(images, 99)
    process.close()
