"""The TensorFlow graph of a network: forward pass, denominators, and the backward pass of relevance.

Relevance is carried as a product C · a. C differs between readouts; a, like every denominator, depends on the image
alone. A layer's step is then one elementwise product with a / Z, which is computed once per image and shared by all
readouts, and one transposed linear map (see docs/lrp.md).

Nothing here holds weights: they are arguments, so networks of one architecture share one traced graph.
"""

import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import tensorflow as tf

from sweep.lrp import winograd
from sweep.lrp.rules import ONES, PLAIN, Input, Rule, Term
from sweep.lrp.steps import FORWARD, Step, Tensor, Weights, key, linear, transposed

TINY = 1e-7
LARGEST = 3e38
"""Shared quotients are held to this, below float32's maximum, so that they never turn a zero into a NaN."""


def run(steps: Sequence[Step], weights: Sequence[Weights], images: Tensor) -> Tensor:
    """The plain forward pass."""
    x = images
    for step, arrays in zip(steps, weights, strict=True):
        x = _forward(step, arrays, x)
    return x


def record(
    steps: Sequence[Step], weights: Sequence[Weights], images: Tensor, bounds: Tensor | None
) -> tuple[Tensor, list[Any]]:
    """The forward pass, and all that the backward pass needs of it, shared by every relevance sent through it.

    `bounds` is a pair of images: the lowest and the highest valid input. Returns the output and, for `propagate`, one entry
    per step and a last one for the input.
    """
    inputs = [images]
    for step, arrays in zip(steps, weights, strict=True):
        inputs.append(_forward(step, arrays, inputs[-1]))
    first = next((index for index, step in enumerate(steps) if step.kernel_shape), len(steps))
    if bounds is not None:
        for step in steps[:first]:
            bounds = _forward(step, {}, bounds)
    shared: list[Any] = []
    a: Tensor | None = None
    for index in reversed(range(len(steps))):
        step, x = steps[index], inputs[index]
        entry: Any = ()
        if step.kind == "linear":
            floor = inputs[index + 1] if step.scaled else None
            entry, a = _gains(step, weights[index], x, a, bounds if index == first else None, floor)
        elif step.kind == "max_pool":
            ones = tf.ones_like(inputs[index + 1])
            if step.tiles:
                a = _max_pool_transposed(step, x, inputs[index + 1], ones) * (
                    1.0 if a is None else _spread(step, a)
                )
            else:
                entry, a = (x, inputs[index + 1], ones if a is None else a), None
        else:
            a = None if a is None else _moved_back(step, a)
        shared.insert(0, entry)
    return inputs[-1], [*shared, () if a is None else (a,)]


def propagate(
    steps: Sequence[Step],
    weights: Sequence[Weights],
    shared: Sequence[Any],
    relevance: Tensor,
    *,
    sum_channels: bool,
) -> Tensor:
    """Send relevance of the output back to the input.

    `relevance` is (readout · image, ...), the image varying fastest. Returns (readout · image, height, width) where
    `sum_channels`, else the input's shape.
    """
    c = relevance
    for step, arrays, entry in reversed(list(zip(steps, weights, shared[:-1], strict=True))):
        if step.kind == "linear":
            c = _linear_back(step, arrays, entry, c)
        elif step.kind == "max_pool":
            if step.tiles:
                c = _spread(step, c)
            else:
                x, y, a = entry
                repeats = [tf.shape(c)[0] // tf.shape(x)[0], 1, 1, 1]
                c = _max_pool_transposed(step, tf.tile(x, repeats), tf.tile(y, repeats), _times(c, a))
        else:
            c = _moved_back(step, c)
    for a in shared[-1]:
        c = _times(c, a)
    channels = steps[0].before[-1] if steps else c.shape[-1]
    if not sum_channels:
        return c if c.shape[-1] == channels else tf.repeat(c, channels, axis=-1)
    return tf.reduce_sum(c, axis=-1) * (channels / c.shape[-1])


def _forward(step: Step, weights: Weights, x: Tensor) -> Tensor:
    if step.kind == "linear":
        if step.winograd_forward:
            return tf.nn.bias_add(winograd.convolution(x, weights[FORWARD]), weights["bias"])
        y = linear(step, x, weights.get("kernel"))
        return tf.nn.bias_add(y, weights["bias"]) if step.kernel_shape else y
    if step.kind == "max_pool":
        return tf.nn.max_pool2d(x, step.size, step.stride, step.padding.upper())
    if step.kind == "relu":
        return tf.nn.relu(x)
    if step.kind == "pad":
        return tf.pad(x, [(0, 0), *step.pads, (0, 0)])
    if step.kind == "reshape":
        return tf.reshape(x, (-1, *step.after))
    return x


def _gains(
    step: Step, weights: Weights, x: Tensor, a: Tensor | None, bounds: Tensor | None, floor: Tensor | None
) -> tuple[tuple[Any, Any], Tensor | None]:
    """What the backward step multiplies with: a / Z of each group, and the inputs where there are several.

    `floor` is the pre-activation, where Z matters only as far as that is positive.
    """
    products: dict[tuple[Any, ...], Tensor] = {}

    def product(term: Term) -> Tensor:
        known = (term.input, term.kernel)
        if known not in products:
            products[known] = _product(step, weights, term, _seen(term.input, x, bounds))
        return products[known]

    gains = []
    for group in _rule(step).groups:
        fast = (
            weights.get(key("denominator factors", group.terms[0].kernel)) if group.is_above_output else None
        )
        if fast is None:
            z = _total([_signed(term.weight, product(term)) for term in group.terms])
        else:
            z = winograd.convolution(x, fast)
        if group.bias is not None and step.kernel_shape:
            z += weights[key("bias", group.bias)]
        if fast is not None:  # so that what the fast product rounds never makes a small denominator smaller
            z = tf.maximum(z, floor)
        gain = group.weight * (1.0 if a is None else a) / _stabilised(z, group.epsilon)
        if group.where != "everywhere":
            plain = product(Term("plain", PLAIN)) + weights.get("bias", 0.0)
            gain = tf.where(plain > 0 if group.where == "positive" else plain < 0, gain, 0.0)
        gains.append(tf.clip_by_value(gain, -LARGEST, LARGEST))
    seen = step.inputs
    if len(seen) > 1:
        return (gains, [_seen(name, x, bounds) for name in seen]), None
    return (gains, []), None if seen == ["ones"] else _seen(seen[0], x, bounds)


def _linear_back(step: Step, weights: Weights, entry: tuple[Any, Any], c: Tensor) -> Tensor:
    gains, multipliers = entry
    collected: dict[str, list[Tensor]] = {name: [] for name in step.inputs}
    for group, gain in zip(_rule(step).groups, gains, strict=True):
        s = _times(c, gain)
        for term in group.terms:
            if term.kernel == ONES:
                # Every input of a window gets the same share: one channel stands for all.
                back = tf.reduce_sum(s, axis=-1, keepdims=True) * (step.after[-1] / s.shape[-1])
                if len(step.kernel_shape) == 4:
                    back = transposed(step, back, weights, ONES)
            else:
                full = s if s.shape[-1] == step.after[-1] else tf.repeat(s, step.after[-1], axis=-1)
                back = transposed(step, full, weights, term.kernel)
            collected[term.input].append(_signed(term.weight, back))
    if not multipliers:
        return _total(next(iter(collected.values())))
    parts = [_times(_total(part), u) for part, u in zip(collected.values(), multipliers, strict=True)]
    return _total(parts)


def _product(step: Step, weights: Weights, term: Term, x: Tensor) -> Tensor:
    if term.kernel != ONES:
        return linear(step, x, weights.get(key("kernel", term.kernel)))
    if len(step.kernel_shape) == 2:
        return tf.constant(float(step.before[0]), shape=(1, 1))
    one_channel = tf.ones((1, *step.before[:2], 1))
    return linear(step, one_channel, weights[key("kernel", ONES)]) * float(step.before[-1])


def _seen(name: Input, x: Tensor, bounds: Tensor | None) -> Tensor:
    """The input as a term sees it; a batch of one where it is the same for every image."""
    if name == "plain":
        return x
    if name == "positive":
        return tf.nn.relu(x)
    if name == "negative":
        return tf.minimum(x, 0.0)
    if name == "ones":
        return tf.ones((1, *x.shape[1:]))
    if bounds is None:
        raise ValueError("the z-box rule is for the first layer with weights, and needs bounds")
    return bounds[0:1] if name == "low" else bounds[1:2]


def _rule(step: Step) -> Rule:
    if step.rule is None:
        raise ValueError(f"a layer of shape {step.kernel_shape} has no rule")
    return step.rule


def _stabilised(z: Tensor, epsilon: float) -> Tensor:
    if epsilon:
        return z + tf.where(z >= 0, epsilon, -epsilon)
    return tf.where(tf.equal(z, 0.0), TINY, z)


def _times(c: Tensor, shared: Tensor) -> Tensor:
    """Multiply (readout · image, ...) by (image, ...) or (1, ...)."""
    if shared.shape[0] == 1:
        return c * shared
    folded = tf.reshape(c, (-1, tf.shape(shared)[0], *c.shape[1:])) * shared
    return tf.reshape(folded, (-1, *folded.shape[2:]))


def _total(parts: Iterable[Tensor]) -> Tensor:
    return reduce(operator.add, parts)


def _signed(weight: float, x: Tensor) -> Tensor:
    return x if weight == 1.0 else weight * x


def _moved_back(step: Step, x: Tensor) -> Tensor:
    """Undo a layer that only moves values."""
    if step.kind == "pad":
        (top, _), (left, _) = step.pads
        return x[:, top : top + step.before[0], left : left + step.before[1]]
    if step.kind == "reshape":
        full = x if x.shape[-1] == step.after[-1] else tf.repeat(x, step.after[-1], axis=-1)
        return tf.reshape(full, (-1, *step.before))
    return x


def _spread(step: Step, x: Tensor) -> Tensor:
    """Copy each value to its whole window."""
    (height, width), (rows, columns), channels = step.after[:2], step.size, x.shape[-1]
    windows = tf.broadcast_to(
        x[:, :, None, :, None, :], (tf.shape(x)[0], height, rows, width, columns, channels)
    )
    return tf.reshape(windows, (-1, *step.before[:2], channels))


def _max_pool_transposed(step: Step, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    """Give each window's value to its winner."""
    back = tf.raw_ops.MaxPoolGrad(
        orig_input=x,
        orig_output=y,
        grad=tf.broadcast_to(s, tf.shape(y)),
        ksize=(1, *step.size, 1),
        strides=(1, *step.stride, 1),
        padding=step.padding.upper(),
    )
    return tf.ensure_shape(back, (None, *step.before))
