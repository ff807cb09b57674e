"""The linear maps of steps, their transposes, and the kernels that rules ask for."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any, TypeAlias

import tensorflow as tf

from sweep.lrp import winograd
from sweep.lrp.layers import Conv, Dense, DepthwiseConv, Layer, LeakyReLU
from sweep.lrp.rules import ONES, PLAIN, Modifier
from sweep.lrp.steps import Step

Tensor: TypeAlias = Any
Weights: TypeAlias = dict[str, Tensor]
"""A layer's arrays: each kernel and bias its rule uses, by modifier."""
FORWARD = "forward factors"
"""Where `prepare` keeps Winograd's factors of a kernel that the forward pass goes by."""


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
    if isinstance(layer, LeakyReLU):
        return {"slope": tf.constant(layer.slope)}
    if not isinstance(layer, Conv | DepthwiseConv | Dense):
        return {}
    if step.winograd_forward:
        return {"bias": tf.constant(layer.bias), FORWARD: tf.constant(winograd.factors(layer.kernel))}
    weights = {"kernel": tf.constant(layer.kernel), "bias": tf.constant(layer.bias)}
    for group in step.rule.groups if step.rule else ():
        for term in group.terms:
            if term.kernel == ONES and step.has_one_share:
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
    if step.kind == "average":
        return tf.nn.avg_pool2d(x, step.size, step.stride, step.padding.upper())
    if len(step.kernel_shape) == 2:
        return tf.matmul(x, kernel)
    if step.depthwise:
        return _depthwise(step, x, kernel)
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
    if step.kind == "average":
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
    height, width = step.before[:2]
    channels = 1 if modifier == ONES and step.has_one_share else step.before[2]
    kernel = _spread_out(kernel, step)
    if step.depthwise or _is_thinned(step):
        ((top, bottom), (left, right)), reaches = _pads(step), _reaches(step)
        padded = (height + top + bottom, width + left + right)
        every = [tf.shape(s)[0], *(n - k + 1 for n, k in zip(padded, reaches, strict=True)), s.shape[-1]]
        if step.stride != (1, 1):
            s = tf.raw_ops.StridedSliceGrad(
                shape=every, begin=[0] * 4, end=every, strides=[1, *step.stride, 1], dy=s
            )
        shape = [tf.shape(s)[0], *padded, channels]
        if step.depthwise:
            back = tf.nn.depthwise_conv2d_backprop_input(shape, kernel, s, [1] * 4, "VALID")
        else:
            back = tf.nn.conv2d_transpose(s, kernel, shape, 1, "VALID")
        return tf.ensure_shape(
            back[:, top : top + height, left : left + width], (None, height, width, channels)
        )
    shape = [tf.shape(s)[0], height, width, channels]
    back = tf.nn.conv2d_transpose(s, kernel, shape, step.stride, step.padding.upper())
    return tf.ensure_shape(back, (None, height, width, channels))


def _depthwise(step: Step, x: Tensor, kernel: Tensor) -> Tensor:
    """Each channel's convolution by itself; TensorFlow's takes equal strides and no dilation beside them."""
    if step.stride[0] != step.stride[1] or step.dilation != (1, 1):
        (rows, columns), padded = step.stride, tf.pad(x, [(0, 0), *_pads(step), (0, 0)])
        every = tf.nn.depthwise_conv2d(padded, _spread_out(kernel, step), [1] * 4, "VALID")
        return every[:, ::rows, ::columns]
    return tf.nn.depthwise_conv2d(x, kernel, [1, *step.stride, 1], step.padding.upper())


def _is_winograd(step: Step, least_products: int) -> bool:
    """Whether Winograd's detour pays: the layer is a 3x3 convolution with so many channel pairs times pixels."""
    return (
        winograd.PAYS
        and not step.depthwise
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
