"""The TensorFlow graph of a network: forward pass, denominators, and the backward pass of relevance.

Relevance is carried as a product C · a. C differs between readouts; a, like every denominator, depends on the image
alone. A layer's step is then one elementwise product with a / Z, which is computed once per image and shared by all
readouts, and one transposed linear map (see docs/lrp.md).

Nothing here holds weights: they are arguments, so networks of one architecture share one traced graph.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from sweep.lrp import winograd
from sweep.lrp.factors import (
    Factor,
    free,
    handed_back,
    in_full,
    max_pool_transposed,
    met,
    moved_back,
    spread,
    times,
)
from sweep.lrp.linear import FORWARD, Tensor, Weights, linear, transposed
from sweep.lrp.quotients import Denominators, of_block, of_inputs, quotients, rule_of, signed, total
from sweep.lrp.rules import ONES
from sweep.lrp.steps import Step


def run(
    steps: Sequence[Step], weights: Sequence[Weights], images: Tensor, *, checked: bool = False
) -> Tensor:
    """The plain forward pass; where it is `checked`, all NaN for an image if a number on its way was not finite.

    The output alone does not tell: a max-pool loses every NaN on some processors, a bounded ReLU on all, and what follows
    looks sound.
    """
    tensors = every_tensor(steps, weights, images)
    output = tensors[-1]
    if not checked:
        return output
    # What only plain ReLUs read is computed together with them; an infinity that counts, and a NaN, are seen behind them.
    hidden = {tensor for step in steps if _passes_nan(step) for tensor in step.reads}
    hidden -= {tensor for step in steps if not _passes_nan(step) for tensor in step.reads}
    seen = [tensor for place, tensor in enumerate(tensors) if place not in hidden]
    sums = [tf.reduce_sum(tensor, axis=range(1, len(tensor.shape))) for tensor in seen]
    sound = tf.reshape(tf.math.is_finite(tf.add_n(sums)), (-1, *(1 for _ in output.shape[1:])))
    return tf.where(sound, output, float("nan"))


def _passes_nan(step: Step) -> bool:
    return step.kind == "relu" and step.max_value is None


def record(
    steps: Sequence[Step],
    weights: Sequence[Weights],
    images: Tensor,
    bounds: Tensor | None,
    *,
    multiple: bool = False,
) -> tuple[Tensor, list[Any]]:
    """The forward pass, and all that the backward pass needs of it, shared by every relevance sent through it.

    `bounds` is a pair of images: the lowest and the highest valid input. `multiple`: whether relevance of the output will
    come as a multiple of the output. Returns the output and, for `propagate`, an entry per tensor and one per step.
    """
    tensors = every_tensor(steps, weights, images)
    boxes = _boxes(steps, weights, bounds)
    factors: list[list[Factor]] = [[] for _ in tensors]
    factors[-1].append(times(tensors[-1]) if multiple else free(None))
    met_with: list[Any] = [()] * len(tensors)
    shared: list[Any] = [()] * len(steps)

    def denominators(index: int) -> Denominators:
        tensor = steps[index].reads[0]
        return Denominators(steps[index], weights[index], tensors[tensor], boxes.get(tensor))

    for index in reversed(range(len(steps))):
        step, y = steps[index], tensors[index + 1]
        inputs = [tensors[tensor] for tensor in step.reads]
        factor, met_with[index + 1] = met(factors[index + 1], y)
        if step.kind == "linear":
            multipliers, before = of_inputs(step, inputs[0], boxes.get(step.reads[0]))
            shared[index] = (quotients(step, denominators(index), y, factor), multipliers)
            before_all = [before]
        elif step.joined:
            parts = [
                denominators(tensor - 1) if joined else None
                for tensor, joined in zip(step.reads, step.joined, strict=True)
            ]
            before_all = of_block(step, parts, inputs, y, factor)
        else:
            shared[index], before_all = handed_back(step, inputs, y, factor)
        for tensor, before in zip(step.reads, before_all, strict=True):
            factors[tensor].append(before)
    factor, met_with[0] = met(factors[0], images)
    last = () if factor.product is None else factor.product
    return tensors[-1], [met_with, shared, last]


def propagate(
    steps: Sequence[Step],
    weights: Sequence[Weights],
    shared: Sequence[Any],
    relevance: Tensor,
    *,
    to_map: bool,
) -> Tensor:
    """Send relevance of the output back to the input.

    `relevance` is (readout · image, ...), the image varying fastest; what `record` was told to expect. Returns the input's
    relevance with channels summed, (readout · image, height, width), where `to_map`; else its C in the input's shape.
    """
    met_with, entries, last = shared
    arrived: list[list[Tensor]] = [[] for _ in met_with]
    arrived[-1].append(relevance)
    for index in reversed(range(len(steps))):
        step = steps[index]
        c = _sum_of(arrived[index + 1], met_with[index + 1])
        arrived[index + 1] = []
        for tensor, back in zip(step.reads, _back(step, weights[index], entries[index], c), strict=True):
            arrived[tensor].append(back)
    c = _sum_of(arrived[0], met_with[0])
    channels = steps[0].before[-1] if steps else c.shape[-1]
    if not to_map:
        return c if c.shape[-1] == channels else tf.repeat(c, channels, axis=-1)
    c = times_shared(c, last)
    return tf.reduce_sum(c, axis=-1) * (channels / c.shape[-1])


def every_tensor(steps: Sequence[Step], weights: Sequence[Weights], images: Tensor) -> list[Tensor]:
    """The input, and what every step gives out."""
    tensors = [images]
    for step, arrays in zip(steps, weights, strict=True):
        tensors.append(_forward(step, arrays, [tensors[tensor] for tensor in step.reads]))
    return tensors


def _boxes(steps: Sequence[Step], weights: Sequence[Weights], bounds: Tensor | None) -> dict[int, Tensor]:
    """The bounds of each tensor that comes from the input through no layer with weights."""
    boxes = {} if bounds is None else {0: bounds}
    for index, step in enumerate(steps):
        if step.kind != "linear" and all(tensor in boxes for tensor in step.reads):
            boxes[index + 1] = _forward(step, weights[index], [boxes[tensor] for tensor in step.reads])
    return boxes


def _forward(step: Step, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    x = inputs[0]
    if step.kind == "linear":
        if step.winograd_forward:
            return tf.nn.bias_add(winograd.convolution(x, weights[FORWARD]), weights["bias"])
        return tf.nn.bias_add(linear(step, x, weights["kernel"]), weights["bias"])
    if step.kind == "average":
        return linear(step, x, None)
    if step.kind == "max_pool":
        return tf.nn.max_pool2d(x, step.size, step.stride, step.padding.upper())
    if step.kind == "relu":
        return tf.nn.relu(x) if step.max_value is None else tf.clip_by_value(x, 0.0, step.max_value)
    if step.kind == "leaky_relu":
        return tf.where(x > 0, x, weights["slope"] * x)
    if step.kind == "pad":
        # Not tf.pad: with oneDNN, TensorFlow 2.21 crashes where its output and a convolution's are added in a graph.
        return tf.raw_ops.PadV2(input=x, paddings=[(0, 0), *step.pads, (0, 0)], constant_values=0.0)
    if step.kind == "reshape":
        return tf.reshape(x, (-1, *step.after))
    if step.kind == "add":
        return total(inputs)
    if step.kind == "concatenate":
        return tf.concat(inputs, axis=-1)
    if step.kind == "multiply":
        return x * inputs[1]
    return x


def _back(step: Step, weights: Weights, entry: Any, c: Tensor) -> list[Tensor]:
    """The C of everything that a step reads, from that of its output."""
    if step.kind == "linear":
        return [_linear_back(step, weights, entry, c)]
    if step.kind == "average":
        return [transposed(step, in_full(step, times_shared(c, entry)), weights, ONES)]
    if step.kind == "max_pool":
        if step.tiles:
            return [spread(step, c)]
        x, y, a = entry
        repeats = [tf.shape(c)[0] // tf.shape(x)[0], 1, 1, 1]
        return [max_pool_transposed(step, tf.tile(x, repeats), tf.tile(y, repeats), times_shared(c, a))]
    if step.kind == "add":
        return [times_shared(c, entry)] * len(step.reads)
    if step.kind == "concatenate":
        if c.shape[-1] != step.after[-1]:
            return [c] * len(step.reads)
        return list(tf.split(c, [shape[-1] for shape in step.befores], axis=-1))
    if step.kind == "multiply":
        return [
            unrepeated(times_shared(c, a), shape, step.after)
            for a, shape in zip(entry, step.befores, strict=True)
        ]
    return [moved_back(step, c)]


def _linear_back(step: Step, weights: Weights, entry: tuple[Any, Any], c: Tensor) -> Tensor:
    divided, multipliers = entry
    collected: dict[str, list[Tensor]] = {name: [] for name in step.inputs}
    for group, quotient in zip(rule_of(step).groups, divided, strict=True):
        s = times_shared(c, quotient)
        for term in group.terms:
            if term.kernel == ONES and step.has_one_share:
                # Every input of a window gets the same share: one channel stands for all.
                back = tf.reduce_sum(s, axis=-1, keepdims=True) * (step.after[-1] / s.shape[-1])
                if len(step.kernel_shape) == 4:
                    back = transposed(step, back, weights, ONES)
            else:
                back = transposed(step, in_full(step, s), weights, term.kernel)
            collected[term.input].append(signed(term.weight, back))
    if not multipliers:
        return total(next(iter(collected.values())))
    if step.keeps_multiples:
        (is_positive,) = multipliers
        parts = [_by_readout(total(collected[name]), is_positive) for name in ("positive", "negative")]
        chosen = tf.where(is_positive, *parts)
        return tf.reshape(chosen, (-1, *chosen.shape[2:]))
    return total(
        [times_shared(total(part), u) for part, u in zip(collected.values(), multipliers, strict=True)]
    )


def _sum_of(arrived: Sequence[Tensor], multipliers: Sequence[Any]) -> Tensor:
    """The C of a tensor, from what each of its readers hands back."""
    if len(arrived) == 1:
        return arrived[0]
    return total([times_shared(c, a) for c, a in zip(arrived, multipliers, strict=True)])


def times_shared(c: Tensor, shared: Any) -> Tensor:
    """Multiply (readout · image, ...) by (image, ...) or (1, ...), or by nothing."""
    if isinstance(shared, tuple):
        return c
    if shared.shape[0] == 1:
        return c * shared
    folded = _by_readout(c, shared) * shared
    return tf.reshape(folded, (-1, *folded.shape[2:]))


def _by_readout(c: Tensor, shared: Tensor) -> Tensor:
    """(readout · image, ...) as (readout, image, ...), the images being those of `shared`."""
    return tf.reshape(c, (-1, tf.shape(shared)[0], *c.shape[1:]))


def unrepeated(c: Tensor, shape: Sequence[int], full: Sequence[int]) -> Tensor:
    """The sum over the axes along which a tensor of `shape` was repeated to be of the shape `full`."""
    repeated = [axis + 1 for axis, (own, n) in enumerate(zip(shape, full, strict=True)) if own < n]
    return tf.reduce_sum(c, axis=repeated, keepdims=True) if repeated else c
