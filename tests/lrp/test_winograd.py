"""Winograd's convolution against TensorFlow's, and the engine's maps with and without it."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.lrp import Conv, Dense, MaxPool, Network, ReLU, program, shared_relevance, winograd
from sweep.lrp.network import Padding

Draw = Callable[..., npt.NDArray[np.float32]]


def drawing(seed: int) -> Draw:
    draws = np.random.default_rng(seed)
    return lambda *shape: draws.normal(size=shape).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_it_is_the_convolution(shape: tuple[int, int, int], channels: tuple[int, int]) -> None:
    normal = drawing(0)
    x, kernel = normal(*shape, channels[0]), normal(3, 3, *channels)
    expected = tf.nn.conv2d(x, kernel, 1, "SAME").numpy()
    result = winograd.convolution(tf.constant(x), tf.constant(winograd.factors(kernel))).numpy()
    np.testing.assert_allclose(result, expected, atol=1e-4 * max(np.abs(expected).max(), 1e-6))


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Winograd's way for every layer that allows it, however narrow."""
    monkeypatch.setattr(winograd, "LEAST_CHANNEL_PAIRS", 0)
    monkeypatch.setattr(winograd, "LEAST_PRODUCTS", 0)
    program.program_of.cache_clear()
    yield
    program.program_of.cache_clear()


def network(normal: Draw) -> Network:
    def conv(n_in: int, n_out: int, padding: Padding = "same") -> Conv:
        kernel = normal(3, 3, n_in, n_out) / np.float32(np.sqrt(9 * n_in))
        return Conv(kernel, np.float32(0.1) * normal(n_out), padding=padding)

    layers = (
        conv(3, 8),
        ReLU(),
        conv(8, 8),
        ReLU(),
        MaxPool(),
        conv(8, 16),
        ReLU(),
        conv(16, 4, "valid"),
        ReLU(),
    )
    return Network(layers, (14, 10, 3))


@pytest.mark.parametrize("preset", ["preset_a", "preset_b", "preset_a_flat", "epsilon_gamma_box"])
def test_maps_do_not_change(preset: str, request: pytest.FixtureRequest) -> None:
    normal = drawing(1)
    backbone = network(normal)
    heads = [Dense(normal(5 * 3 * 4, 3), normal(3)) for _ in range(3)]
    images = normal(2, 14, 10, 3)
    plain = shared_relevance(backbone, heads, images, "predicted", preset, bounds=(-5, 5))
    request.getfixturevalue("everywhere")
    same = Network(backbone.layers, backbone.input_shape)
    fast = shared_relevance(same, heads, images, "predicted", preset, bounds=(-5, 5))
    assert not np.array_equal(plain, fast)
    largest = np.abs(plain).max(axis=(2, 3), keepdims=True)
    # Where a denominator of preset B comes near zero, the relevance grows, and its rounding with it.
    assert (np.abs(fast - plain) / largest).max() < 3e-5
