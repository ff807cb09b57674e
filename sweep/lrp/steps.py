"""The steps of a graph: layers without their arrays, and their linear maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import tensorflow as tf

from sweep.lrp import winograd
from sweep.lrp.network import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Network,
    Padding,
    ReLU,
    Shape,
    ZeroPad,
)
from sweep.lrp.rules import ONES, PLAIN, Input, Modifier, Rule, for_nonnegative_input

Tensor: TypeAlias = Any
Weights: TypeAlias = dict[str, Tensor]
"""A layer's arrays: each kernel and bias its rule uses, by modifier."""
FORWARD = "forward factors"
"""Where `prepare` keeps Winograd's factors of a kernel that the forward pass goes by."""


@dataclass(frozen=True)
class Step:
    """A layer without its arrays: all that decides the graph."""

    kind: str
    """'linear' (average pools too), 'max_pool', 'relu', 'reshape', 'pad' or 'identity'."""
    before: Shape
    after: Shape
    rule: Rule | None = None
    kernel_shape: Shape = ()
    """Empty for average pools."""
    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "valid"
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    scaled: bool = False
    """Whether the relevance of the outputs is a multiple of what a ReLU lets through of them."""
    winograd_forward: bool = False
    """Whether the forward pass, too, goes by Winograd's minimal filtering."""

    @property
    def inputs(self) -> list[Input]:
        """The distinct inputs that the rule's terms see."""
        groups = self.rule.groups if self.rule else ()
        return list(dict.fromkeys(term.input for group in groups for term in group.terms))

    @property
    def tiles(self) -> bool:
        """Whether the windows of a pool cover its input exactly once."""
        return self.size == self.stride and all(
            n % k == 0 for n, k in zip(self.before[:2], self.size, strict=True)
        )


def steps(network: Network, rules: Sequence[Rule | None]) -> tuple[Step, ...]:
    """Describe each layer of a network, `rules` naming the rule of each layer that needs one."""
    described = []
    nonnegative = False
    for layer, rule, before, after in zip(
        network.layers, rules, network.shapes[:-1], network.shapes[1:], strict=True
    ):
        if rule is not None and nonnegative:
            rule = for_nonnegative_input(rule)
        if isinstance(layer, Conv):
            step = Step(
                "linear",
                before,
                after,
                rule,
                layer.kernel.shape,
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
            )
        elif isinstance(layer, Dense):
            step = Step("linear", before, after, rule, layer.kernel.shape)
        elif isinstance(layer, MaxPool):
            step = Step(
                "max_pool", before, after, size=layer.size, stride=layer.stride, padding=layer.padding
            )
        elif isinstance(layer, ReLU):
            step = Step("relu", before, after)
        elif isinstance(layer, Flatten):
            step = Step("reshape", before, after)
        elif isinstance(layer, ZeroPad):
            step = Step("pad", before, after, pads=layer.padding)
        elif isinstance(layer, AveragePool):
            step = Step(
                "linear", before, after, rule, size=layer.size, stride=layer.stride, padding=layer.padding
            )
        else:
            step = Step("identity", before, after)
        described.append(step)
        nonnegative = step.kind == "relu" or (nonnegative and not step.kernel_shape)
    return _with_scales(described)


def _with_scales(described: Sequence[Step]) -> tuple[Step, ...]:
    """Find, from the end, where relevance is a multiple of the values it belongs to."""
    found: list[Step] = []
    multiple = False
    for step in reversed(described):
        if step.kind == "linear":
            found.append(replace(step, scaled=multiple and found[-1].kind == "relu"))
            multiple = len(step.inputs) == 1 and step.inputs != ["ones"]
        else:
            found.append(step)
            multiple = multiple and (step.kind != "max_pool" or step.tiles)
    return tuple(reversed(found))


def with_winograd(described: Sequence[Step]) -> tuple[Step, ...]:
    """Let the forward pass of wide 3x3 convolutions go by Winograd, which rounds about ten times as much as the plain sum.

    For passes that end in features; relevance divides by what its forward pass gives, and keeps to the plain sum.
    """
    return tuple(
        replace(step, winograd_forward=_is_winograd(step, winograd.LEAST_PRODUCTS_FORWARD))
        for step in described
    )


def prepare(layer: Layer, step: Step) -> Weights:
    """A layer's kernels and biases, modified as its rule asks; empty for layers without weights."""
    if not isinstance(layer, Conv | Dense):
        return {}
    if step.winograd_forward:
        return {"bias": tf.constant(layer.bias), FORWARD: tf.constant(winograd.factors(layer.kernel))}
    weights = {"kernel": tf.constant(layer.kernel), "bias": tf.constant(layer.bias)}
    for group in step.rule.groups if step.rule else ():
        for term in group.terms:
            if term.kernel == ONES:
                weights[key("kernel", ONES)] = tf.ones((*step.kernel_shape[:-2], 1, 1))
            else:
                kernel = _modified(weights["kernel"], term.kernel)
                weights[key("kernel", term.kernel)] = kernel
                # For groups whose quotients are known to be one or less (docs/lrp.md).
                if _is_winograd(step, winograd.LEAST_PRODUCTS) and step.scaled and group.is_above_output:
                    weights[key("factors", term.kernel)] = tf.constant(winograd.factors(_turned(kernel)))
                    if term.kernel != PLAIN:  # else the denominator is the output
                        factors = tf.constant(winograd.factors(kernel.numpy()))
                        weights[key("denominator factors", term.kernel)] = factors
        if group.bias is not None:
            weights[key("bias", group.bias)] = _modified(weights["bias"], group.bias)
    return weights


def linear(step: Step, x: Tensor, kernel: Tensor) -> Tensor:
    """The layer's linear map, without bias; average pools need no kernel."""
    if not step.kernel_shape:
        return tf.nn.avg_pool2d(x, step.size, step.stride, step.padding.upper())
    if len(step.kernel_shape) == 2:
        return tf.matmul(x, kernel)
    if _is_thinned(step):
        (rows, columns), pads = step.stride, _pads(step)
        every = tf.nn.conv2d(tf.pad(x, [(0, 0), *pads, (0, 0)]), kernel, 1, "VALID", dilations=step.dilation)
        return every[:, ::rows, ::columns]
    return tf.nn.conv2d(x, kernel, step.stride, step.padding.upper(), dilations=step.dilation)


def transposed(step: Step, s: Tensor, weights: Weights, modifier: Modifier) -> Tensor:
    """The transpose of the layer's linear map, with its kernel modified."""
    if (factors := weights.get(key("factors", modifier))) is not None:
        return winograd.convolution(s, factors)
    kernel = weights.get(key("kernel", modifier))
    if not step.kernel_shape:
        back = tf.raw_ops.AvgPoolGrad(
            orig_input_shape=[tf.shape(s)[0], *step.before],
            grad=s,
            ksize=(1, *step.size, 1),
            strides=(1, *step.stride, 1),
            padding=step.padding.upper(),
        )
        return tf.ensure_shape(back, (None, *step.before))
    if len(step.kernel_shape) == 2:
        return tf.matmul(s, kernel, transpose_b=True)
    height, width, channels = *step.before[:2], 1 if modifier == ONES else step.before[2]
    kernel = _spread_out(kernel, step)
    if _is_thinned(step):
        ((top, bottom), (left, right)), reaches = _pads(step), _reaches(step)
        padded = (height + top + bottom, width + left + right)
        every = [tf.shape(s)[0], *(n - k + 1 for n, k in zip(padded, reaches, strict=True)), s.shape[-1]]
        spread = tf.raw_ops.StridedSliceGrad(
            shape=every, begin=[0] * 4, end=every, strides=[1, *step.stride, 1], dy=s
        )
        shape = [tf.shape(s)[0], *padded, channels]
        back = tf.nn.conv2d_transpose(spread, kernel, shape, 1, "VALID")
        return tf.ensure_shape(
            back[:, top : top + height, left : left + width], (None, height, width, channels)
        )
    shape = [tf.shape(s)[0], height, width, channels]
    back = tf.nn.conv2d_transpose(s, kernel, shape, step.stride, step.padding.upper())
    return tf.ensure_shape(back, (None, height, width, channels))


def _is_winograd(step: Step, least_products: int) -> bool:
    """Whether Winograd's detour pays: the layer is a 3x3 convolution with so many channel pairs times pixels."""
    return (
        winograd.PAYS
        and step.kernel_shape[:2] == (3, 3)
        and prod(step.kernel_shape[2:]) >= winograd.LEAST_CHANNEL_PAIRS
        and prod(step.kernel_shape[2:]) * prod(step.after[:2]) >= least_products
        and step.stride == step.dilation == (1, 1)
        and step.padding == "same"
    )


def _turned(kernel: Tensor) -> Any:
    """The kernel (height, width, in, out) whose convolution is the transpose of the given one's."""
    return kernel.numpy()[::-1, ::-1].transpose(0, 1, 3, 2)


def _is_thinned(step: Step) -> bool:
    """Whether a convolution is computed at every place, then thinned out to its stride.

    TensorFlow 2.21's oneDNN kernels return wrong values for unequal strides (seen with one input channel and one
    output column), and not all of its kernels take stride and dilation together.
    """
    return step.stride[0] != step.stride[1] or (max(step.stride) > 1 and max(step.dilation) > 1)


def _spread_out(kernel: Tensor, step: Step) -> Tensor:
    """The kernel with the zeros between its values that dilation stands for.

    Only TensorFlow's oneDNN kernels transpose a dilated convolution on a CPU, and they are not used on every CPU.
    """
    if step.dilation == (1, 1):
        return kernel
    (rows, columns), (down, across) = kernel.shape[:2], step.dilation
    apart = tf.reshape(kernel, (rows, 1, columns, 1, *kernel.shape[2:]))
    padded = tf.pad(apart, [(0, 0), (0, down - 1), (0, 0), (0, across - 1), (0, 0), (0, 0)])
    height, width = _reaches(step)
    return tf.reshape(padded, (rows * down, columns * across, *kernel.shape[2:]))[:height, :width]


def _reaches(step: Step) -> tuple[int, int]:
    """Rows and columns from a window's first to its last, in pixels."""
    rows, columns = (d * (k - 1) + 1 for k, d in zip(step.kernel_shape[:2], step.dilation, strict=True))
    return rows, columns


def _pads(step: Step) -> list[tuple[int, int]]:
    """Rows and columns of zeros that the padding adds, before and after."""
    if step.padding == "valid":
        return [(0, 0), (0, 0)]
    sizes = zip(step.before[:2], step.after[:2], step.stride, _reaches(step), strict=True)
    missing = [max((n_out - 1) * stride + reach - n, 0) for n, n_out, stride, reach in sizes]
    return [(total // 2, total - total // 2) for total in missing]


def key(array: str, modifier: Modifier) -> str:
    """Where `prepare` keeps a modified 'kernel' or 'bias', or a kernel's Winograd 'factors' or 'denominator factors'."""
    return array if modifier == PLAIN else f"{array} {tuple(modifier)}"


def _modified(array: Tensor, modifier: Modifier) -> Tensor:
    if modifier == PLAIN:
        return array
    parts = zip(modifier[:3], (array, tf.nn.relu(array), tf.minimum(array, 0.0)), strict=True)
    return tf.add_n([weight * part for weight, part in parts if weight]) ** modifier.power
