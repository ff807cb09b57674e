"""Random small networks for the tests, and the twin's rules for every preset."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from sweep.lrp import AveragePool, Conv, Dense, Dropout, Flatten, Layer, MaxPool, Network, ReLU, ZeroPad
from sweep.lrp.layers import Padding
from tests.lrp import twin
from tests.lrp.twin import LinearRule

INNVESTIGATE = ("preset_a", "preset_b", "preset_a_flat", "preset_b_flat")

PAIRS = st.one_of(st.just((1, 1)), st.just((2, 2)), st.tuples(st.integers(1, 3), st.integers(1, 3)))
"""Strides: most often 1 or 2 both ways."""


def conv(
    rng: np.random.Generator, n_in: int, n_out: int, size: Any = (3, 3), *, bias: float = 0.3, **more: Any
) -> Conv:
    kernel = rng.standard_normal((*size, n_in, n_out)) / np.sqrt(size[0] * size[1] * n_in)
    return Conv(kernel.astype(np.float32), (bias * rng.standard_normal(n_out)).astype(np.float32), **more)


def dense(rng: np.random.Generator, n_in: int, n_out: int, *, bias: float = 0.3, name: str = "") -> Dense:
    kernel = rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)
    return Dense(kernel.astype(np.float32), (bias * rng.standard_normal(n_out)).astype(np.float32), name)


def small(seed: int, *, bias: float = 0.3, n_classes: int = 4) -> Network:
    """A fixed architecture with pools, strides and a dense stack, with random weights."""
    rng = np.random.default_rng(seed)
    layers = (
        conv(rng, 3, 6, bias=bias, name="first"),
        ReLU(),
        conv(rng, 6, 6, bias=bias, name="second"),
        ReLU(),
        MaxPool(),
        conv(rng, 6, 8, bias=bias, name="third", stride=(2, 2)),
        ReLU(),
        AveragePool((2, 2), (1, 1), "same"),
        Flatten(),
        dense(rng, 72, 10, bias=bias, name="hidden"),
        ReLU(),
        Dropout(),
        dense(rng, 10, n_classes, bias=bias, name="readout"),
    )
    return Network(layers, (12, 12, 3))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Chains of convolutions, pools and dense layers with non-zero biases; relu after most, so signs vary."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(4, 8)), draw(st.integers(4, 8)), draw(st.integers(1, 3)))
    layers: list[Layer] = []

    def add(layer: Layer) -> None:
        layers.append(layer)

    def here() -> tuple[int, ...]:
        return Network(tuple(layers), shape).output_shape

    def window(limit: int) -> tuple[tuple[int, int], Padding]:
        padding: Padding = draw(st.sampled_from(("same", "valid")))
        height, width, _ = here()
        return (draw(st.integers(1, min(limit, height))), draw(st.integers(1, min(limit, width)))), padding

    if draw(st.booleans()):
        add(ZeroPad(draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2))))
    for _ in range(draw(st.integers(0, 3))):
        size, padding = window(3)
        stride, dilation = draw(PAIRS), (1, 1)
        if padding == "same":
            dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
        more: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        add(conv(rng, here()[2], draw(st.integers(1, 4)), size, **more))
        if draw(st.integers(0, 4)):
            add(ReLU())
        kind = draw(st.sampled_from((None, MaxPool, AveragePool)))
        if kind is not None:
            size, padding = window(3)
            add(kind(size, size if draw(st.booleans()) else draw(PAIRS), padding))
    add(Flatten())
    for _ in range(draw(st.integers(0, 2))):
        add(dense(rng, here()[0], draw(st.integers(2, 6))))
        add(ReLU())
    add(Dropout())
    add(dense(rng, here()[0], draw(st.integers(2, 4))))
    return Network(tuple(layers), shape)


def jittered(network: Network, rng: np.random.Generator) -> Network:
    """The same network with its weights moved by about float32's rounding."""

    def moved(array: Any) -> Any:
        return array.astype(np.float64) * (1 + 1e-7 * rng.standard_normal(array.shape))

    layers: list[Any] = []
    for layer in network.layers:
        if isinstance(layer, Conv):
            layer = Conv(moved(layer.kernel), moved(layer.bias), layer.stride, layer.padding, layer.dilation)
        elif isinstance(layer, Dense):
            layer = Dense(moved(layer.kernel), moved(layer.bias))
        layers.append(layer)
    return Network(tuple(layers), network.input_shape)


def rules_of(
    network: Network, conv: LinearRule, dense: LinearRule, pool: LinearRule, **first: LinearRule
) -> list[LinearRule]:
    """The twin's rule of every convolution, dense layer and average pool; `first` by kind of the first of them."""
    chosen: list[LinearRule] = []
    is_first = True
    for layer in network.layers:
        if isinstance(layer, AveragePool):
            chosen.append(pool)
        elif isinstance(layer, Conv | Dense):
            kind, usual = ("conv", conv) if isinstance(layer, Conv) else ("dense", dense)
            chosen.append(first.get(f"first_{kind}", usual) if is_first else usual)
            is_first = False
    return chosen


def preset_rules(name: str, network: Network) -> list[LinearRule]:
    """What each preset stands for, written out a second time."""
    z, tenth, small_e = twin.epsilon_rule(0), twin.epsilon_rule(0.1), twin.epsilon_rule(1e-6)
    flat, flat_e = twin.flat_rule(), twin.flat_rule(1e-6)
    a, b = twin.alpha_beta_rule(1, 0), twin.alpha_beta_rule(2, 1)
    a_e, b_e = twin.alpha_beta_rule(1, 0, 1e-6), twin.alpha_beta_rule(2, 1, 1e-6)
    gamma, box = twin.gamma_rule(0.25, 1e-6), twin.z_box_rule(1e-6)
    both: dict[str, LinearRule] = {"first_conv": flat, "first_dense": flat}
    both_e: dict[str, LinearRule] = {"first_conv": flat_e, "first_dense": flat_e}
    return {
        "preset_a": lambda: rules_of(network, a, tenth, z),
        "preset_b": lambda: rules_of(network, b, tenth, z),
        "preset_a_flat": lambda: rules_of(network, a, tenth, z, **both),
        "preset_b_flat": lambda: rules_of(network, b, tenth, z, **both),
        "preset_b_flat_until": lambda: rules_of(network, b, tenth, z, **both),
        "epsilon_plus": lambda: rules_of(network, a_e, small_e, small_e),
        "epsilon_plus_flat": lambda: rules_of(network, a_e, small_e, small_e, **both_e),
        "epsilon_alpha2_beta1": lambda: rules_of(network, b_e, small_e, small_e),
        "epsilon_alpha2_beta1_flat": lambda: rules_of(network, b_e, small_e, small_e, **both_e),
        "epsilon_gamma_box": lambda: rules_of(network, gamma, small_e, small_e, first_conv=box),
    }[name]()
