"""Winograd's convolution against TensorFlow's, and the engine's maps with and without it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.lrp import (
    Add,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Network,
    ReLU,
    ZeroPad,
    graph,
    linear,
    program,
    shared_relevance,
    steps,
    winograd,
)
from sweep.lrp.assignment import Bias
from sweep.lrp.composites import composite
from sweep.lrp.layers import Padding
from tests.lrp import nets, twin
from tests.lrp.test_rules import BIASES, RULES, SEEDS, check, on_random_networks

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


@contextmanager
def winograd_everywhere() -> Iterator[None]:
    """Winograd's way for every layer that allows it, however narrow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "LEAST_CHANNEL_PAIRS", 0)
        patch.setattr(winograd, "LEAST_PRODUCTS", 0)
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
def test_maps_do_not_change(preset: str) -> None:
    normal = drawing(1)
    backbone = network(normal)
    heads = [Dense(normal(5 * 3 * 4, 3), normal(3)) for _ in range(3)]
    images = normal(2, 14, 10, 3)
    plain = shared_relevance(backbone, heads, images, "predicted", preset, bounds=(-5, 5))
    same = Network(backbone.layers, backbone.input_shape)
    with winograd_everywhere():
        fast = shared_relevance(same, heads, images, "predicted", preset, bounds=(-5, 5))
    assert not np.array_equal(plain, fast)
    largest = np.abs(plain).max(axis=(2, 3), keepdims=True)
    assert (np.abs(fast - plain) / largest).max() < 3e-6


def residual(normal: Draw) -> Network:
    """Two residual blocks of the convolutions that go by Winograd."""

    def conv(n_in: int) -> Conv:
        kernel = normal(3, 3, n_in, 8) / np.float32(np.sqrt(9 * n_in))
        return Conv(kernel, np.float32(0.1) * normal(8))

    block = (conv(8), ReLU(), conv(8), Add(), ReLU())
    again = (conv(8), ReLU(), conv(8), Add(), ReLU())
    reads = ((0,), (1,), (2,), (3,), (4,), (5, 2), (6,), (7,), (8,), (9,), (10, 7), (11,))
    return Network((conv(3), ReLU(), *block, *again), (14, 10, 3), reads)


@pytest.mark.parametrize("add", ["z", "plus", "block"])
def test_maps_of_residual_networks_do_not_change(add: str) -> None:
    normal = drawing(3)
    backbone = residual(normal)
    heads = [Dense(normal(14 * 10 * 8, 3), normal(3)) for _ in range(2)]
    images = normal(2, 14, 10, 3)
    given = {"preset": "preset_a", "kinds": {"add": add}}
    plain = shared_relevance(backbone, heads, images, "predicted", given)
    same = Network(backbone.layers, backbone.input_shape, backbone.reads)
    with winograd_everywhere():
        fast = shared_relevance(same, heads, images, "predicted", given)
    assert not np.array_equal(plain, fast)
    largest = np.abs(plain).max(axis=(2, 3), keepdims=True)
    assert (np.abs(fast - plain) / largest).max() < (3e-5 if add == "z" else 5e-6)


def test_branches_of_sums_are_fast_only_where_shares_are_bounded() -> None:
    network = residual(drawing(3))
    for add, inside in (("z", False), ("plus", True), ("block", True)):
        given = composite({"preset": "preset_a", "kinds": {"add": add}})
        described = steps.steps(network, given.rules(network.layers), given.sharing, multiple=True)
        # Convolutions before a ReLU always are; those before a sum where its shares are.
        scaled = [step.scaled for step in described if step.kernel_shape]
        assert scaled == [True, True, inside, True, inside]


@st.composite
def chains(draw: st.DrawFn) -> Network:
    """Chains of the convolutions that go by Winograd, most of them rectified, with pools that tile or overlap.

    Of few sizes, because each is compiled.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (8, 9, draw(st.sampled_from([1, 4])))
    layers: list[Layer] = []
    for _ in range(draw(st.integers(2, 3))):
        n_in = Network(tuple(layers), shape).output_shape[2]
        layers.append(nets.conv(rng, n_in, draw(st.sampled_from([1, 4])), padding="same"))
        layers += [ReLU()] if draw(st.integers(0, 4)) else []
        layers += draw(st.sampled_from([[], [MaxPool()], [MaxPool((2, 2), (1, 1))]]))
    layers.append(Flatten())
    n_in = Network(tuple(layers), shape).output_shape[0]
    return Network((*layers, nets.dense(rng, n_in, 3)), shape)


@pytest.mark.parametrize("name", ["alpha1_beta0", "alpha2_beta1", "gamma"])
@on_random_networks
@given(chain=chains(), bias=BIASES, seed=SEEDS)
def test_maps_agree_with_their_twin(name: str, chain: Network, bias: Bias, seed: int) -> None:
    conv, rule = RULES[name]
    composite = {"kinds": {"conv": conv, "dense": "z"}}
    z = twin.epsilon_rule(0)
    with winograd_everywhere():
        check(chain, composite, nets.rules_of(chain, rule, z, z), bias, seed)


def recorded(chain: Network, preset: Any, images: Any) -> tuple[list[Any], list[Any]]:
    """What the backward pass shares, with denominators by Winograd where they may be, and with none."""
    with winograd_everywhere():
        described = steps.steps(chain, composite(preset).rules(chain.layers))
        fast = [linear.prepare(*pair) for pair in zip(chain.layers, described, strict=True)]
    slow = [{k: v for k, v in arrays.items() if "denominator" not in k} for arrays in fast]
    both = [graph.record(described, weights, tf.constant(images), None)[1] for weights in (fast, slow)]
    return tf.nest.flatten(both[0]), tf.nest.flatten(both[1])


ALPHA_BETA = {"kinds": {"conv": {"rule": "alpha_beta"}, "dense": "z"}}
FAST = (ReLU(), MaxPool(), ReLU())


@pytest.mark.parametrize(
    ("between", "rule", "is_fast"),
    [
        (FAST, {}, True),
        ((ReLU(), ZeroPad(((1, 1), (0, 2)))), {}, True),
        (FAST, {"positions": {-1: "w_square"}}, False),  # gives relevance to inputs that are zero
        (FAST, {"positions": {-1: "flat"}}, False),
        ((MaxPool(),), {"positions": {-1: "z"}}, False),  # not rectified
        ((ReLU(), MaxPool((2, 2), (1, 1))), {}, True),  # a multiple of the input, in windows that overlap too
    ],
)
def test_only_denominators_that_matter_where_the_output_is_positive_are_fast(
    between: tuple[Layer, ...], rule: dict[str, Any], is_fast: bool
) -> None:
    rng = np.random.default_rng(3)
    layers = (ReLU(), nets.conv(rng, 3, 8, padding="same"), *between, nets.conv(rng, 8, 2, padding="same"))
    images = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    fast, slow = recorded(Network(layers, (8, 8, 3)), ALPHA_BETA | rule, images)
    assert all(np.array_equal(*pair) for pair in zip(fast, slow, strict=True)) != is_fast
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


def test_no_share_exceeds_the_whole_where_a_denominator_nearly_vanishes() -> None:
    """Without negative weights Z is the output itself, here a remainder of rounding; the quotient is one or less."""
    rng = np.random.default_rng(4)
    kernel = rng.uniform(0, 1, (3, 3, 4, 16)).astype(np.float32)
    bias = -np.float32(1 - 1e-6) * kernel.sum((0, 1, 2))
    layers = (
        ReLU(),
        Conv(kernel, bias, padding="same"),
        ReLU(),
        nets.conv(rng, 16, 2, bias=0, padding="same"),
    )
    fast, slow = recorded(Network(layers, (12, 12, 4)), ALPHA_BETA, np.ones((1, 12, 12, 4), np.float32))
    assert max(np.abs(gain).max() for gain in slow[:1]) > 0
    assert 0 < fast[0].numpy().max() <= 1
    assert fast[0].numpy().min() >= 0
