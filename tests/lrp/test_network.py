from typing import Any

import numpy as np
import pytest

from sweep.errors import InputError
from sweep.lrp import (
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Flatten,
    LeakyReLU,
    MaxPool,
    Multiply,
    Network,
    ReLU,
    ZeroPad,
    forward,
)
from tests.lrp import nets

RNG = np.random.default_rng(0)


def test_shapes_follow_the_layers() -> None:
    layers = (
        ZeroPad(((1, 0), (2, 3))),
        nets.conv(RNG, 3, 5, (3, 3), stride=(2, 2)),
        nets.conv(RNG, 5, 4, (3, 2), padding="valid", dilation=(1, 2)),
        MaxPool((2, 2), (1, 1), "same"),
        AveragePool((2, 1), (2, 1)),
        Flatten(),
        nets.dense(RNG, 32, 2),
    )
    network = Network(layers, (11, 7, 3))
    images = [(11, 7, 3), (12, 12, 3), (6, 6, 5), (4, 4, 4), (4, 4, 4), (2, 4, 4)]
    assert network.shapes == (*images, (32,), (2,))
    assert network.output_shape == forward(network, np.zeros((1, 11, 7, 3))).shape[1:]


def test_arrays_become_float32() -> None:
    layer = Dense(np.ones((2, 3)), np.zeros(3))  # type: ignore[arg-type]
    assert layer.kernel.dtype == layer.bias.dtype == np.float32


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((nets.conv(RNG, 4, 2, name="odd"),), "'odd'.*takes 4 channels but gets 6x6x3"),
        ((nets.dense(RNG, 4, 2, name="odd"),), "'odd'.*takes 4 inputs but gets 6x6x3"),
        ((Flatten(), MaxPool(name="odd")), "'odd'.*behind a flatten"),
        ((MaxPool((7, 7), (1, 1), name="odd"),), "'odd'.*larger than its input"),
        (("odd",), "no kind the engine knows"),
    ],
)
def test_a_layer_that_does_not_fit_is_named(layers: tuple[Conv, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Network(layers, (6, 6, 3))


def test_ill_made_layers_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        Conv(np.ones((3, 3, 2, 4), np.float32), np.ones(3, np.float32))
    with pytest.raises(InputError, match="do not fit"):
        DepthwiseConv(np.ones((3, 3, 2, 4), np.float32), np.ones(4, np.float32))
    with pytest.raises(InputError, match="do not fit"):
        Dense(np.ones((3, 4), np.float32), np.ones(3, np.float32))
    with pytest.raises(InputError, match="neither 'same' nor 'valid'"):
        MaxPool(padding="full")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not \\(height, width, channels\\)"):
        Network((), (3, 3))  # type: ignore[arg-type]


BRANCHES = (
    nets.conv(RNG, 3, 3, name="one"),
    ReLU(),
    Add("sum"),
    Concatenate(),
    AveragePool((6, 6)),
    Multiply(),
    Flatten(),
)
READS = ((0,), (1,), (2, 0), (3, 1), (4,), (4, 5), (6,))


def test_shapes_follow_what_each_layer_reads() -> None:
    network = Network(BRANCHES, (6, 6, 3), READS)
    assert network.shapes[3:] == ((6, 6, 3), (6, 6, 6), (1, 1, 6), (6, 6, 6), (216,))
    assert not network.is_chain
    assert Network(BRANCHES[:2], (6, 6, 3)).is_chain
    assert forward(network, np.zeros((2, 6, 6, 3))).shape == (2, 216)


def test_a_part_of_a_network_and_one_with_more_behind_it() -> None:
    network = Network(BRANCHES, (6, 6, 3), READS)
    images = RNG.standard_normal((2, 6, 6, 3)).astype(np.float32)
    part = network.up_to(2)
    assert part.layers == BRANCHES[:3]
    again = part.then(ReLU("behind"))
    assert again.reads == (*READS[:3], (3,))
    np.testing.assert_array_equal(forward(again, images), np.maximum(forward(part, images), 0))


@pytest.mark.parametrize(
    ("layers", "reads", "words"),
    [
        (BRANCHES[:3], ((0,), (1,), (2, 3)), r"layer 2 \(add 'sum'\) reads \(2, 3\), not tensors before it"),
        (BRANCHES[:3], ((0,), (0,), (2, 0)), r"layer 0 \(conv 'one'\) leads to nothing"),
        (BRANCHES[:3], ((0,), (1,), (2,)), "'sum'.*reads 1 tensors; it needs two or more"),
        (BRANCHES[:3], ((0,), (1,)), "names what 2 of its 3 layers read"),
        ((MaxPool(), Add("sum")), ((0,), (1, 0)), "adds tensors of different shapes, 3x3x3 and 6x6x3"),
        ((MaxPool(), Concatenate("odd")), ((0,), (1, 0)), "'odd'.*that do not fit, 3x3x3 and 6x6x3"),
        ((Flatten(), Multiply("odd")), ((0,), (1, 0)), "'odd'.*multiplies tensors that do not fit"),
        ((LeakyReLU(np.ones(4), "odd"),), (), "'odd'.*has slopes 4 for an input 6x6x3"),  # type: ignore[arg-type]
        ((DepthwiseConv(np.ones((1, 1, 2, 1)), np.ones(2), name="odd"),), (), "'odd'.*takes 2 channels"),  # type: ignore[arg-type]
    ],
)
def test_a_graph_that_does_not_fit_is_named(layers: tuple[Conv, ...], reads: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Network(layers, (6, 6, 3), reads)
