"""Relevance as the formulas say it, in NumPy float64: slow, plain, and written apart from the engine.

Every linear layer is written out as a matrix, one column per output, so that `W * x` is `x @ matrix` and the
transpose is `matrix.T`. Small networks only.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sweep.lrp import (
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool,
    Multiply,
    Network,
    ReLU,
    ZeroPad,
)

Array: TypeAlias = npt.NDArray[np.float64]
LinearRule: TypeAlias = Callable[..., Array]
"""Takes x, R, the matrix, the bias and the keywords low, high, whole_bias; returns R_in."""


def windows(
    shape: tuple[int, ...],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: str,
    dilation: tuple[int, int],
) -> list[list[list[tuple[int, int, int, int]]]]:
    """For each output place, the (window row, window column, input row, input column) that lie inside the input."""
    starts: list[list[int]] = []
    for n, k, s, d in zip(shape[:2], size, stride, dilation, strict=True):
        reach = d * (k - 1) + 1
        if padding == "same":
            n_out = -(-n // s)
            before = max((n_out - 1) * s + reach - n, 0) // 2
        else:
            n_out, before = (n - reach) // s + 1, 0
        starts.append([i * s - before for i in range(n_out)])
    return [
        [
            [
                (i, j, row + i * dilation[0], column + j * dilation[1])
                for i in range(size[0])
                for j in range(size[1])
                if 0 <= row + i * dilation[0] < shape[0] and 0 <= column + j * dilation[1] < shape[1]
            ]
            for column in starts[1]
        ]
        for row in starts[0]
    ]


def matrix_of(layer: Any, shape: tuple[int, ...]) -> tuple[Array, Array, tuple[int, ...]]:
    """A linear layer as (matrix, bias per output), and the shape of its output."""
    if isinstance(layer, Dense):
        return layer.kernel.astype(np.float64), layer.bias.astype(np.float64), layer.bias.shape
    if isinstance(layer, Conv | DepthwiseConv):
        kernel = full_kernel(layer)
        places = windows(shape, kernel.shape[:2], layer.stride, layer.padding, layer.dilation)
        n_out = kernel.shape[3]
        bias = layer.bias.astype(np.float64)
    else:
        places = windows(shape, layer.size, layer.stride, layer.padding, (1, 1))
        n_out = shape[2]
        bias = np.zeros(n_out)
    after = (len(places), len(places[0]), n_out)
    matrix = np.zeros((*shape, *after))
    for r, line in enumerate(places):
        for c, window in enumerate(line):
            for i, j, row, column in window:
                if isinstance(layer, Conv | DepthwiseConv):
                    matrix[row, column, :, r, c, :] += kernel[i, j]
                else:
                    matrix[row, column, :, r, c, :] += np.eye(n_out) / len(window)
    size = int(np.prod(shape))
    return matrix.reshape(size, -1), np.tile(bias, after[0] * after[1]), after


def full_kernel(layer: Conv | DepthwiseConv) -> Array:
    """The kernel (height, width, in, out), with zeros between the channels that a depthwise one keeps apart."""
    kernel = layer.kernel.astype(np.float64)
    if isinstance(layer, Conv):
        return kernel
    height, width, channels, multiplier = kernel.shape
    full = np.zeros((height, width, channels, channels, multiplier))
    for channel in range(channels):
        full[:, :, channel, channel] = kernel[:, :, channel]
    return full.reshape(height, width, channels, -1)


def support_of(layer: Any, shape: tuple[int, ...]) -> Array:
    """1 where an output sees an input, else 0: the matrix of the layer with a kernel of ones."""
    if isinstance(layer, Dense):
        return np.ones(layer.kernel.shape)
    ones = replace(layer, kernel=np.ones_like(layer.kernel))
    return matrix_of(ones, shape)[0]


def divide(numerator: Array, denominator: Array, epsilon: float = 0.0) -> Array:
    if epsilon:
        return numerator / (denominator + epsilon * np.where(denominator >= 0, 1.0, -1.0))
    return numerator / np.where(denominator == 0, 1e-7, denominator)


def plus(a: Array) -> Array:
    return np.maximum(a, 0.0)


def minus(a: Array) -> Array:
    return np.minimum(a, 0.0)


def epsilon_rule(epsilon: float) -> LinearRule:
    def rule(x: Array, r: Array, w: Array, b: Array, **_: Any) -> Array:
        return x * (divide(r, x @ w + b, epsilon) @ w.T)

    return rule


def alpha_beta_rule(alpha: float, beta: float, epsilon: float = 0.0) -> LinearRule:
    def rule(x: Array, r: Array, w: Array, b: Array, *, whole_bias: bool, **_: Any) -> Array:
        z_act = plus(x) @ plus(w) + minus(x) @ minus(w) + (b if whole_bias else plus(b))
        z_inh = plus(x) @ minus(w) + minus(x) @ plus(w) + (b if whole_bias else minus(b))
        s_act, s_inh = divide(r, z_act, epsilon), divide(r, z_inh, epsilon)
        r_act = plus(x) * (s_act @ plus(w).T) + minus(x) * (s_act @ minus(w).T)
        r_inh = plus(x) * (s_inh @ minus(w).T) + minus(x) * (s_inh @ plus(w).T)
        return alpha * r_act - beta * r_inh

    return rule


def gamma_rule(gamma: float, epsilon: float = 0.0) -> LinearRule:
    def rule(x: Array, r: Array, w: Array, b: Array, **_: Any) -> Array:
        up, down = w + gamma * plus(w), w + gamma * minus(w)
        z = x @ w + b
        s_up = divide(r * (z > 0), plus(x) @ up + minus(x) @ down + b + gamma * plus(b), epsilon)
        s_down = divide(r * (z < 0), plus(x) @ down + minus(x) @ up + b + gamma * minus(b), epsilon)
        return plus(x) * (s_up @ up.T + s_down @ down.T) + minus(x) * (s_up @ down.T + s_down @ up.T)

    return rule


def w_square_rule(epsilon: float = 0.0) -> LinearRule:
    def rule(x: Array, r: Array, w: Array, b: Array, **_: Any) -> Array:
        return divide(r, np.ones_like(x) @ w**2, epsilon) @ (w**2).T

    return rule


def flat_rule(epsilon: float = 0.0) -> LinearRule:
    def rule(x: Array, r: Array, w: Array, b: Array, *, support: Array, **_: Any) -> Array:
        return divide(r, np.ones_like(x) @ support, epsilon) @ support.T

    return rule


def z_box_rule(epsilon: float = 0.0) -> LinearRule:
    def rule(x: Array, r: Array, w: Array, b: Array, *, low: Array, high: Array, **_: Any) -> Array:
        s = divide(r, x @ w - low @ plus(w) - high @ minus(w), epsilon)
        return x * (s @ w.T) - low * (s @ plus(w).T) - high * (s @ minus(w).T)

    return rule


def relevance(
    network: Network,
    image: Array,
    rules: list[LinearRule],
    target: int | str,
    *,
    whole_bias: bool = True,
    bounds: tuple[Array, Array] | None = None,
    add: str = "z",
) -> tuple[Array, Array]:
    """Map (height, width) and logits of one image.

    `rules`: one per convolution, dense layer and average pool; `add`: how sums share their relevance.
    """
    tensors = [np.asarray(image, np.float64)]
    ends = [
        np.broadcast_to(end, tensors[0].shape).astype(float) for end in (bounds or (np.zeros(1), np.zeros(1)))
    ]
    boxes: list[Any] = [ends]
    left = iter(rules)
    ruled: list[LinearRule | None] = []
    for layer, reads in zip(network.layers, network.reads, strict=True):
        ruled.append(next(left) if isinstance(layer, Conv | DepthwiseConv | Dense | AveragePool) else None)
        tensors.append(forward(layer, [tensors[t] for t in reads]))
        known = [boxes[t] for t in reads]
        linear = isinstance(layer, Conv | DepthwiseConv | Dense)
        boxes.append(
            None if linear or None in known else [forward(layer, list(e)) for e in zip(*known, strict=True)]
        )
    logits = tensors[-1].ravel()
    chosen = int(logits.argmax()) if target == "predicted" else target
    found = [np.zeros_like(t) for t in tensors]
    found[-1] = np.array(
        logits if target == "all" else np.where(np.arange(logits.size) == chosen, logits, 0.0)
    )
    found[-1] = found[-1].reshape(tensors[-1].shape)
    readers = [sum(t in reads for reads in network.reads) for t in range(len(tensors))]
    done: set[int] = set()
    for index in reversed(range(len(network.layers))):
        if index in done:
            continue
        layer, reads, r = network.layers[index], network.reads[index], found[index + 1]
        inputs = [tensors[t] for t in reads]
        if isinstance(layer, Add) and add == "block":
            own = [
                t - 1
                for t in reads
                if t and readers[t] == 1 and isinstance(network.layers[t - 1], Conv | DepthwiseConv | Dense)
            ]
            own = [i for i in own if ruled[i] is ruled[own[0]]]
            if own:
                others = [t for t in reads if t - 1 not in own]
                parts = [(network.layers[i], tensors[network.reads[i][0]]) for i in own]
                shares = block_back(parts, [tensors[t] for t in others], r, ruled[own[0]], whole_bias)
                for t, share in zip([*(network.reads[i][0] for i in own), *others], shares, strict=True):
                    found[t] += share
                done |= set(own)
                continue
        box = boxes[reads[0]] or [np.zeros_like(inputs[0])] * 2
        for t, share in zip(reads, back(layer, inputs, r, ruled[index], box, whole_bias, add), strict=True):
            found[t] += share
    return found[0].sum(axis=-1), logits


def forward(layer: Any, inputs: Sequence[Array]) -> Array:
    x = inputs[0]
    if isinstance(layer, Conv | DepthwiseConv | Dense | AveragePool):
        matrix, bias, after = matrix_of(layer, x.shape)
        return np.asarray((x.ravel() @ matrix + bias).reshape(after))
    if isinstance(layer, MaxPool):
        places = windows(x.shape, layer.size, layer.stride, layer.padding, (1, 1))
        return np.array(
            [[np.max([x[r, c] for _, _, r, c in window], axis=0) for window in line] for line in places]
        )
    if isinstance(layer, ReLU):
        highest = np.inf if layer.max_value is None else layer.max_value
        return plus(np.minimum(x, highest))
    if isinstance(layer, LeakyReLU):
        return np.where(x > 0, x, layer.slope.astype(np.float64) * x)
    if isinstance(layer, Flatten):
        return x.ravel()
    if isinstance(layer, ZeroPad):
        return np.pad(x, (*layer.padding, (0, 0)))
    if isinstance(layer, Add):
        return sum(inputs[1:], x)
    if isinstance(layer, Concatenate):
        return np.concatenate(inputs, axis=-1)
    if isinstance(layer, Multiply):
        product: Array = x * inputs[1]
        return product
    assert isinstance(layer, Dropout)
    return x


def back(
    layer: Any, inputs: Sequence[Array], r: Array, rule: Any, box: Any, whole_bias: bool, add: str
) -> list[Array]:
    """The relevance of each input of one layer."""
    x = inputs[0]
    if rule is not None:
        matrix, bias, _ = matrix_of(layer, x.shape)
        support = np.zeros((0, 0)) if isinstance(layer, AveragePool) else support_of(layer, x.shape)
        low, high = (end.ravel() for end in box)
        given = {"support": support, "low": low, "high": high, "whole_bias": whole_bias}
        return [rule(x.ravel(), r.ravel(), matrix, bias, **given).reshape(x.shape)]
    if isinstance(layer, MaxPool):
        places = windows(x.shape, layer.size, layer.stride, layer.padding, (1, 1))
        return [max_pool_back(x, places, r)]
    if isinstance(layer, ReLU):
        return [r if layer.max_value is None else r * (x < layer.max_value)]
    if isinstance(layer, LeakyReLU):
        return [r * np.where(x > 0, 1.0, layer.slope.astype(np.float64))]
    if isinstance(layer, ZeroPad):
        (top, _), (left, _) = layer.padding
        return [r[top : top + x.shape[0], left : left + x.shape[1]]]
    if isinstance(layer, Add):
        y = np.sum(inputs, axis=0)
        parts = [a if add == "z" else np.where(np.sign(a) == np.sign(y), a, 0.0) for a in inputs]
        return [part * divide(r, np.sum(parts, axis=0)) for part in parts]
    if isinstance(layer, Concatenate):
        ends = np.cumsum([a.shape[-1] for a in inputs])[:-1]
        return list(np.split(r, ends, axis=-1))
    if isinstance(layer, Multiply):
        shares = [r * inputs[1], r * x]
        axes = [tuple(i for i, n in enumerate(a.shape) if n < r.shape[i]) for a in inputs]
        return [share.sum(axis=axis, keepdims=True) for share, axis in zip(shares, axes, strict=True)]
    return [r.reshape(x.shape)]


def block_back(
    parts: Sequence[tuple[Any, Array]], others: Sequence[Array], r: Array, rule: Any, whole_bias: bool
) -> list[Array]:
    """A sum and the layers before it as one layer, whose input is theirs side by side."""
    xs = [x.ravel() for _, x in parts] + [a.ravel() for a in others]
    matrices, biases = zip(*[matrix_of(layer, x.shape)[:2] for layer, x in parts], strict=True)
    rows = [*matrices, *[np.eye(r.size)] * len(others)]
    bias = np.sum(biases, axis=0)
    sizes = [x.size for x in xs]
    if not whole_bias:  # each layer's bias has a sign of its own, as an input of 1 would have
        rows += [np.diag(b) for b in biases]
        xs += [np.ones(r.size)] * len(biases)
        bias = np.zeros(r.size)
    share = rule(np.concatenate(xs), r.ravel(), np.concatenate(rows), bias, whole_bias=whole_bias)
    shapes = [x.shape for _, x in parts] + [a.shape for a in others]
    split = np.split(share, np.cumsum(sizes))[: len(sizes)]
    return [one.reshape(shape) for one, shape in zip(split, shapes, strict=True)]


def max_pool_back(x: Array, places: Any, r: Array) -> Array:
    back = np.zeros_like(x)
    for i, line in enumerate(places):
        for j, window in enumerate(line):
            for channel in range(x.shape[2]):
                values = [x[row, column, channel] for _, _, row, column in window]
                _, _, row, column = window[int(np.argmax(values))]
                back[row, column, channel] += r[i, j, channel]
    return back
