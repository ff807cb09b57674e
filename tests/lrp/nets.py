"""Random small networks for the tests, and the twin's rules for every preset."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from sweep.lrp import (
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    Network,
    ReLU,
    ZeroPad,
)
from sweep.lrp.layers import Padding, output_shape
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


def depthwise(
    rng: np.random.Generator, n_in: int, multiplier: int, size: Any = (3, 3), **more: Any
) -> DepthwiseConv:
    kernel = rng.standard_normal((*size, n_in, multiplier)) / np.sqrt(size[0] * size[1])
    bias = 0.3 * rng.standard_normal(n_in * multiplier)
    return DepthwiseConv(kernel.astype(np.float32), bias.astype(np.float32), **more)


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


@st.composite
def graphs(draw: st.DrawFn) -> Network:
    """Networks whose tensors are read several times, with every kind of layer; relu after most, so signs vary."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(4, 7)), draw(st.integers(4, 7)), draw(st.integers(1, 3)))
    layers: list[Layer] = []
    reads: list[tuple[int, ...]] = []
    shapes: list[tuple[int, ...]] = [shape]

    def add(layer: Layer, *tensors: int) -> int:
        layers.append(layer)
        reads.append(tensors)
        shapes.append(output_shape(layer, [shapes[tensor] for tensor in tensors]))
        return len(layers)

    def branch(tensor: int, like: tuple[int, ...] | None) -> int:
        """A convolution, or one per channel and one by points, with a relu or a leaky one after some."""
        n_in = shapes[tensor][2]
        stride = draw(st.sampled_from([(1, 1), (2, 2)])) if like is None else (1, 1)
        if draw(st.integers(0, 2)) == 0:
            tensor = add(depthwise(rng, n_in, draw(st.integers(1, 2)), (3, 2), stride=stride), tensor)
            stride = (1, 1)
        size = draw(st.sampled_from([(1, 1), (3, 3)]))
        n_out = draw(st.integers(1, 3)) if like is None else like[2]
        return after(add(conv(rng, shapes[tensor][2], n_out, size, stride=stride), tensor))

    def after(tensor: int) -> int:
        kind = draw(st.integers(0, 4))
        if kind == 0:
            return tensor
        slope = rng.uniform(
            0.1, 0.4, draw(st.sampled_from([(), (shapes[tensor][2],), shapes[tensor]]))
        ).astype(np.float32)
        return add(LeakyReLU(slope) if kind == 1 else ReLU(max_value=6.0 if kind == 2 else None), tensor)

    here = branch(0, None)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["sum", "sum", "shortcut", "beside", "gate", "pool", "itself"]))
        if kind == "sum":
            here = after(add(Add(), branch(here, shapes[here]), here))
        elif kind == "shortcut":
            one = branch(here, None)
            stride = (1, 1) if shapes[one][:2] == shapes[here][:2] else (2, 2)
            others = [
                add(conv(rng, shapes[here][2], shapes[one][2], (1, 1), stride=stride), here) for _ in range(2)
            ]
            here = after(add(Add(), one, *others))
        elif kind == "beside":
            here = after(add(Concatenate(), here, branch(here, shapes[here])))
        elif kind == "gate":
            height, width = shapes[here][:2]
            pooled = add(AveragePool((height, width), (height, width)), here)
            here = add(Multiply(), here, add(conv(rng, shapes[here][2], shapes[here][2], (1, 1)), pooled))
        elif kind == "pool" and min(shapes[here][:2]) > 1:
            pools: list[Layer] = [
                MaxPool(),
                MaxPool((2, 2), (1, 1)),
                AveragePool(),
                AveragePool((3, 3), (2, 2), "same"),
            ]
            here = add(draw(st.sampled_from(pools)), here)
        else:
            here = add(Add(), here, here)
    here = add(Flatten(), here)
    add(dense(rng, shapes[here][0], 3), here)
    return Network(tuple(layers), shape, tuple(reads))


def jittered(network: Network, rng: np.random.Generator) -> Network:
    """The same network with its weights moved by about float32's rounding."""

    def moved(array: Any) -> Any:
        return array.astype(np.float64) * (1 + 1e-7 * rng.standard_normal(array.shape))

    layers = [
        replace(layer, kernel=moved(layer.kernel), bias=moved(layer.bias))
        if isinstance(layer, Conv | DepthwiseConv | Dense)
        else layer
        for layer in network.layers
    ]
    return Network(tuple(layers), network.input_shape, network.reads)


def rules_of(
    network: Network, conv: LinearRule, dense: LinearRule, pool: LinearRule, **first: LinearRule
) -> list[LinearRule]:
    """The twin's rule of every convolution, dense layer and average pool; `first` by kind of those that come first."""
    chosen: list[LinearRule] = []
    weighted = [False]
    for layer, reads in zip(network.layers, network.reads, strict=True):
        is_first = not any(weighted[tensor] for tensor in reads)
        is_linear = isinstance(layer, Conv | DepthwiseConv | Dense)
        weighted.append(is_linear or not is_first)
        if isinstance(layer, AveragePool):
            chosen.append(pool)
        elif is_linear:
            kind, usual = ("dense", dense) if isinstance(layer, Dense) else ("conv", conv)
            chosen.append(first.get(f"first_{kind}", usual) if is_first else usual)
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
