"""Relevance as the formulas say it, in NumPy float64: slow, plain, and written apart from the engine.

Every linear layer is written out as a matrix, one column per output, so that `W * x` is `x @ matrix` and the
transpose is `matrix.T`. Small networks only.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sweep.lrp import AveragePool, Conv, Dense, Dropout, Flatten, MaxPool, Network, ReLU, ZeroPad

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
    if isinstance(layer, Conv):
        kernel = layer.kernel.astype(np.float64)
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
                if isinstance(layer, Conv):
                    matrix[row, column, :, r, c, :] += kernel[i, j]
                else:
                    matrix[row, column, :, r, c, :] += np.eye(n_out) / len(window)
    size = int(np.prod(shape))
    return matrix.reshape(size, -1), np.tile(bias, after[0] * after[1]), after


def support_of(layer: Any, shape: tuple[int, ...]) -> Array:
    """1 where an output sees an input, else 0: the matrix of the layer with a kernel of ones."""
    if isinstance(layer, Dense):
        return np.ones(layer.kernel.shape)
    ones = Conv(np.ones_like(layer.kernel), layer.bias, layer.stride, layer.padding, layer.dilation)
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
) -> tuple[Array, Array]:
    """Map (height, width) and logits of one image. `rules`: one per convolution, dense layer and average pool."""
    x = np.asarray(image, np.float64)
    low, high = (
        np.broadcast_to(end, x.shape).astype(float) for end in (bounds or (np.zeros(1), np.zeros(1)))
    )
    record: list[tuple[Any, ...]] = []
    left = iter(rules)
    for layer in network.layers:
        if isinstance(layer, Conv | Dense | AveragePool):
            matrix, bias, after = matrix_of(layer, x.shape)
            support = np.zeros((0, 0)) if isinstance(layer, AveragePool) else support_of(layer, x.shape)
            record.append(("linear", x, matrix, bias, support, next(left), low.ravel(), high.ravel()))
            x = (x.ravel() @ matrix + bias).reshape(after)
        elif isinstance(layer, MaxPool):
            places = windows(x.shape, layer.size, layer.stride, layer.padding, (1, 1))
            record.append(("max_pool", x, places))
            x = np.array(
                [[np.max([x[r, c] for _, _, r, c in window], axis=0) for window in line] for line in places]
            )
        elif isinstance(layer, ReLU):
            x = plus(x)
        elif isinstance(layer, Flatten):
            record.append(("reshape", x))
            x, low, high = x.ravel(), low.ravel(), high.ravel()
        elif isinstance(layer, ZeroPad):
            record.append(("pad", x, layer.padding))
            x, low, high = (np.pad(a, (*layer.padding, (0, 0))) for a in (x, low, high))
        else:
            assert isinstance(layer, Dropout)
    logits = x.ravel()
    chosen = int(logits.argmax()) if target == "predicted" else target
    r = logits if target == "all" else np.where(np.arange(logits.size) == chosen, logits, 0.0)
    for kind, x, *more in reversed(record):
        if kind == "linear":
            matrix, bias, support, rule, low, high = more
            r = rule(
                x.ravel(), r.ravel(), matrix, bias, support=support, low=low, high=high, whole_bias=whole_bias
            )
            r = r.reshape(x.shape)
        elif kind == "max_pool":
            r = max_pool_back(x, more[0], r.reshape(len(more[0]), len(more[0][0]), -1))
        elif kind == "pad":
            (top, _), (left_, _) = more[0]
            r = r[top : top + x.shape[0], left_ : left_ + x.shape[1]]
        else:
            r = r.reshape(x.shape)
    return r.reshape(network.input_shape).sum(axis=-1), logits


def max_pool_back(x: Array, places: Any, r: Array) -> Array:
    back = np.zeros_like(x)
    for i, line in enumerate(places):
        for j, window in enumerate(line):
            for channel in range(x.shape[2]):
                values = [x[row, column, channel] for _, _, row, column in window]
                _, _, row, column = window[int(np.argmax(values))]
                back[row, column, channel] += r[i, j, channel]
    return back
