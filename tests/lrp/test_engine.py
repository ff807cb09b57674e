import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.errors import InputError
from sweep.lrp import (
    COMPOSITES,
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    Network,
    ReLU,
    ZeroPad,
    engine,
    forward,
    program,
    relevance,
    shared_relevance,
)
from tests.lrp import nets, twin

RNG = np.random.default_rng(3)
WHOLE = nets.small(1)
BACKBONE = Network(WHOLE.layers[:8], WHOLE.input_shape)
READOUTS = [nets.dense(RNG, 72, n, name=f"r{n}") for n in (5, 2, 5, 3)]
IMAGES = RNG.standard_normal((6, 12, 12, 3)).astype(np.float32)
BOUNDS = (-5.0, [5.0, 5.0, 6.0])


def joined(readout: Dense) -> Network:
    return Network((*BACKBONE.layers, Flatten(), readout), BACKBONE.input_shape)


def test_forward_is_the_plain_network() -> None:
    expected = [twin.relevance(WHOLE, image, nets.preset_rules("preset_a", WHOLE), 0)[1] for image in IMAGES]
    np.testing.assert_allclose(forward(WHOLE, IMAGES), expected, atol=1e-5)
    assert forward(BACKBONE, IMAGES).shape == (6, *BACKBONE.output_shape)
    assert forward(WHOLE, IMAGES[:0]).shape == (0, 4)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("stride", [(1, 3), (3, 1), (2, 1), (2, 2)])
def test_any_stride_and_dilation(stride: Any, dilation: Any, padding: Any) -> None:
    rng = np.random.default_rng(0)
    # One input channel, and as little as one output column: where TensorFlow 2.21 by itself goes wrong.
    layer = nets.conv(rng, 1, 2, (2, 2), stride=stride, dilation=dilation, padding=padding)
    network = Network((layer, Flatten()), (5, 4, 1))
    images = rng.standard_normal((2, 5, 4, 1)).astype(np.float32)
    expected = [twin.relevance(network, image, [twin.epsilon_rule(0.1)], 0) for image in images]
    maps, logits = relevance(
        network, images, 0, {"kinds": {"conv": {"rule": "epsilon", "epsilon": 0.1}}}, return_logits=True
    )
    np.testing.assert_allclose(logits, [each[1] for each in expected], atol=1e-6)
    np.testing.assert_allclose(maps, [each[0] for each in expected], atol=1e-6)


@pytest.mark.parametrize("bias", ["innvestigate", "split"])
@pytest.mark.parametrize("name", COMPOSITES)
def test_sharing_a_backbone_changes_nothing(name: str, bias: Any) -> None:
    targets = np.array([RNG.integers(0, readout.bias.size, 6) for readout in READOUTS])
    maps, logits = shared_relevance(
        BACKBONE, READOUTS, IMAGES, targets, name, bias, bounds=BOUNDS, return_logits=True
    )
    assert maps.shape == (4, 6, 12, 12)
    assert maps.dtype == np.float32
    for readout, row, shared_map, shared_logits in zip(READOUTS, targets, maps, logits, strict=True):
        alone, its_logits = relevance(
            joined(readout), IMAGES, row, name, bias, bounds=BOUNDS, return_logits=True
        )
        np.testing.assert_allclose(shared_map, alone, atol=1e-6 * np.abs(alone).max())
        np.testing.assert_allclose(shared_logits, its_logits, atol=1e-6)


def test_targets() -> None:
    logits = forward(WHOLE, IMAGES)
    predicted = relevance(WHOLE, IMAGES, "predicted")
    np.testing.assert_array_equal(predicted, relevance(WHOLE, IMAGES, logits.argmax(axis=1)))
    np.testing.assert_array_equal(relevance(WHOLE, IMAGES, 2), relevance(WHOLE, IMAGES, [2] * 6))
    every = sum(relevance(WHOLE, IMAGES, c) for c in range(4))
    np.testing.assert_allclose(relevance(WHOLE, IMAGES, "all"), every, atol=1e-6 * np.abs(every).max())
    shared = shared_relevance(BACKBONE, READOUTS, IMAGES, "predicted")
    np.testing.assert_allclose(shared[1], relevance(joined(READOUTS[1]), IMAGES, "predicted"), atol=1e-6)


def test_a_network_without_a_dense_layer_explains_its_own_output() -> None:
    network = Network(WHOLE.layers[:5], WHOLE.input_shape)
    maps, logits = relevance(network, IMAGES, "all", return_logits=True)
    assert logits.shape == (6, 216)
    assert maps.shape == (6, 12, 12)


def test_passes_of_any_size_give_the_same_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shared_relevance(BACKBONE, READOUTS, IMAGES, "predicted")
    for limit in (1, 80_000):  # one map at a time; a few images at a time
        monkeypatch.setattr(engine, "CHUNK_BYTES", limit)
        np.testing.assert_allclose(
            shared_relevance(BACKBONE, READOUTS, IMAGES, "predicted"), whole, atol=1e-6
        )
        np.testing.assert_allclose(forward(WHOLE, IMAGES[:3]), forward(WHOLE, IMAGES)[:3], atol=1e-6)


def test_no_images_and_no_readouts() -> None:
    assert relevance(WHOLE, IMAGES[:0], "predicted").shape == (0, 12, 12)
    assert shared_relevance(BACKBONE, READOUTS, IMAGES[:0], "predicted").shape == (4, 0, 12, 12)
    assert shared_relevance(BACKBONE, [], IMAGES, "predicted").shape == (0, 6, 12, 12)


@pytest.mark.parametrize(
    "rule", ["z", {"rule": "alpha_beta"}, "gamma", "w_square", "flat", {"rule": "gamma", "gamma": 2}]
)
@pytest.mark.parametrize("first", ["z", "flat", "w_square", "z_box"])
def test_relevance_is_conserved_without_biases(rule: Any, first: str) -> None:
    network = nets.small(5, bias=0.0)
    images = np.abs(IMAGES)
    # w_square and flat reach inputs that are zero, and what a padding's zeros are given is theirs by right.
    composite = {"kinds": {"conv": rule, "dense": "z"}, "positions": {0: first}}
    maps, logits = relevance(network, images, 1, composite, bounds=(-1.0, 6.0), return_logits=True)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), logits[:, 1], rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("add", ["z", "plus", "block"])
def test_relevance_is_conserved_by_sums_and_channels_beside_each_other(add: str, rectified: bool) -> None:
    rng = np.random.default_rng(2)
    layers = (
        nets.conv(rng, 3, 4, bias=0),
        ReLU(),
        nets.conv(rng, 4, 4, bias=0),
        Add(),
        ReLU() if rectified else Dropout(),
        Concatenate(),
        MaxPool((3, 3), (2, 2)),
        AveragePool((5, 5)),
        Flatten(),
        nets.dense(rng, 8, 3, bias=0),
    )
    reads = ((0,), (1,), (2,), (3, 2), (4,), (5, 2), (6,), (7,), (8,), (9,))
    network = Network(layers, (12, 12, 3), reads)
    composite = {"kinds": {"conv": {"rule": "alpha_beta"}, "dense": "z", "add": add}}
    maps, logits = relevance(network, IMAGES, 1, composite, return_logits=True)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), logits[:, 1], rtol=2e-3, atol=1e-5)


def test_a_sum_of_a_padded_convolution_and_another_is_that_of_the_plain_network() -> None:
    """The shortcut of a residual network that pads what gets smaller; TensorFlow 2.21 by itself crashes at it."""
    rng = np.random.default_rng(4)
    layers = (
        nets.conv(rng, 3, 4, stride=(2, 2), padding="valid"),
        ReLU(),
        AveragePool((2, 2), (2, 2)),
        nets.conv(rng, 4, 4),
        ZeroPad(((0, 1), (0, 1))),
        nets.conv(rng, 3, 4, (1, 1), padding="valid"),
        Add(),
        Flatten(),
    )
    network = Network(layers, (8, 8, 3), ((0,), (1,), (0,), (2,), (4,), (3,), (5, 6), (7,)))
    images = rng.standard_normal((2, 8, 8, 3)).astype(np.float32)
    rules = nets.preset_rules("preset_a", network)
    expected = [twin.relevance(network, image, rules, 0)[1] for image in images]
    np.testing.assert_allclose(forward(network, images), expected, atol=1e-5)


@pytest.mark.parametrize("add", ["z", "plus", "block"])
def test_readouts_share_the_backbone_of_a_graph_too(add: str) -> None:
    rng = np.random.default_rng(1)
    layers = (nets.conv(rng, 3, 4), ReLU(), nets.conv(rng, 4, 4), Add(), ReLU(), MaxPool(), Flatten())
    backbone = Network(layers, (12, 12, 3), ((0,), (1,), (2,), (3, 2), (4,), (5,), (6,)))
    readouts = [nets.dense(rng, 144, n) for n in (3, 2)]
    given = {"preset": "preset_a_flat", "kinds": {"add": add}}
    maps = shared_relevance(backbone, readouts, IMAGES, "predicted", given)
    for own, readout in zip(maps, readouts, strict=True):
        alone = relevance(backbone.then(readout), IMAGES, "predicted", given)
        np.testing.assert_allclose(own, alone, atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize("bias", ["innvestigate", "split"])
@pytest.mark.parametrize("name", [*COMPOSITES, "gamma", "w_square", "flat", "z"])
def test_dead_units_and_constant_images_give_finite_maps(name: str, bias: Any) -> None:
    given: Any = name if name in COMPOSITES else {"kinds": {"conv": name, "dense": name}}
    rng = np.random.default_rng(0)
    dead = nets.conv(rng, 6, 6)
    dead = Conv(dead.kernel, dead.bias - np.array([100, 100, 100, 0, 0, 0], np.float32))
    none = Conv(np.zeros_like(dead.kernel), np.zeros(6, np.float32))
    images = np.stack([np.full((12, 12, 3), value, np.float32) for value in (0, 1, -5, 150)])
    tail = (ReLU(), MaxPool(), Flatten(), nets.dense(rng, 216, 3, bias=0))
    for middle in ((dead,), (none,), (none, ReLU(), dead), (dead, ReLU(), none)):
        network = Network((nets.conv(rng, 3, 6, bias=0), ReLU(), *middle, *tail), (12, 12, 3))
        maps = relevance(network, images, 0, given, bias, bounds=(-200, 200))
        assert np.isfinite(maps).all()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def test_memory_does_not_grow_with_changing_readouts() -> None:
    rng = np.random.default_rng(0)
    backbone = Network((nets.conv(rng, 3, 16), ReLU(), MaxPool()), (32, 32, 3))
    images = rng.standard_normal((2, 32, 32, 3)).astype(np.float32)

    def call() -> None:
        # 4096 x 101 floats: a leak of one readout in a hundred would show.
        readouts = [nets.dense(rng, 4096, n) for n in (101, 2)]
        shared_relevance(backbone, readouts, images, "predicted")

    for _ in range(20):
        call()
    gc.collect()
    before, known = resident_bytes(), program.program_of.cache_info().misses
    for _ in range(200):
        call()
    gc.collect()
    assert resident_bytes() - before < 30e6
    assert program.program_of.cache_info().misses == known


def test_backbones_of_one_architecture_share_their_graphs() -> None:
    for seed in (11, 12):
        relevance(nets.small(seed), IMAGES, 0)
    known = program.program_of.cache_info().misses
    relevance(nets.small(13), IMAGES[:2], 0)
    assert program.program_of.cache_info().misses == known


def test_prepared_weights_die_with_their_network() -> None:
    network = nets.small(21)
    forward(network, IMAGES)
    assert network in program._prepared
    known = len(program._prepared)
    del network
    gc.collect()
    assert len(program._prepared) < known


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("best", "neither class numbers nor predicted nor all"),
        ([0, 1], "shape \\(2,\\); expected \\(6,\\)"),
        ([0, 0, 0, 0, 0, 4], "classes 0 to 3, got 0 to 4"),
        (-1, "classes 0 to 3, got -1"),
        ([0.5] * 6, "must be whole numbers"),
    ],
)
def test_bad_targets_are_named(targets: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        relevance(WHOLE, IMAGES, targets)


def test_other_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="images: have the shape"):
        relevance(WHOLE, IMAGES[:, :5], 0)
    with pytest.raises(InputError, match="readout 0 'odd': takes 7 inputs, but the backbone has 72"):
        shared_relevance(BACKBONE, [nets.dense(RNG, 7, 2, name="odd")], IMAGES, "predicted")
    with pytest.raises(InputError, match="expected \\(4, 6\\): a class per readout and image"):
        shared_relevance(BACKBONE, READOUTS, IMAGES, np.zeros((6, 4), int))
    with pytest.raises(InputError, match="neither class numbers nor predicted"):
        shared_relevance(BACKBONE, READOUTS, IMAGES, "all")
    with pytest.raises(InputError, match="bounds: the rule z_box needs"):
        relevance(WHOLE, IMAGES, 0, "epsilon_gamma_box")
    with pytest.raises(InputError, match="bounds: must be \\(low, high\\)"):
        relevance(WHOLE, IMAGES, 0, "epsilon_gamma_box", bounds=([1, 2], 3))
    with pytest.raises(InputError, match="every low must be below"):
        relevance(WHOLE, IMAGES, 0, "epsilon_gamma_box", bounds=(1, 1))
    unweighted, readout = Network((Flatten(),), (2, 2, 3)), nets.dense(RNG, 12, 2)
    box = {"kinds": {"dense": "z_box"}}
    with pytest.raises(InputError, match="needs a layer with weights in the backbone"):
        shared_relevance(unweighted, [readout], IMAGES[:, :2, :2], "predicted", box, bounds=(0, 1))
