import numpy as np
import pytest

from sweep.errors import InputError
from sweep.lrp import AveragePool, Conv, Dense, Flatten, MaxPool, Network, ZeroPad, forward
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
        Dense(np.ones((3, 4), np.float32), np.ones(3, np.float32))
    with pytest.raises(InputError, match="neither 'same' nor 'valid'"):
        MaxPool(padding="full")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not \\(height, width, channels\\)"):
        Network((), (3, 3))  # type: ignore[arg-type]
