"""What of a tensor's relevance depends on the image alone, and how steps hand it back to what they read.

The relevance of a tensor t is C · a. C differs between readouts; a is shared by them. Wherever the rules allow it, a is
a multiple of the tensor itself, gate · t. Then tensors that are read several times need no more than a sum of C's, and a
sum hands its C to what was added.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from sweep.lrp.linear import Tensor
from sweep.lrp.steps import Step

TINY = 1e-7
LARGEST = 3e38
"""Shared quotients are held to this, below float32's maximum, so that they never turn a zero into a NaN."""


@dataclass(frozen=True)
class Factor:
    """The shared factor a of a tensor's relevance C · a."""

    multiple: bool
    """Whether a is a multiple of the tensor."""
    gate: Tensor | None
    """That multiple; None is 1. Where a is no multiple, this is None."""
    product: Tensor | None
    """a itself; None is 1."""
    quotients: Sequence[Tensor] = ()
    """a over the denominator of each group of a rule, where a sum has divided already."""


def times(t: Tensor, gate: Tensor | None = None, product: Tensor | None = None) -> Factor:
    """The factor gate · t; `product` where it is at hand."""
    if product is None:
        product = t if gate is None else gate * t
    return Factor(True, gate, product)


def free(a: Tensor | None) -> Factor:
    """A factor that is no multiple of the tensor."""
    return Factor(False, None, a)


def met(factors: Sequence[Factor], t: Tensor) -> tuple[Factor, list[Any]]:
    """The factor of a tensor that is read several times, and what the C of each reader is multiplied with first."""
    if len(factors) == 1:
        return factors[0], []
    if all(factor.multiple for factor in factors):
        return times(t), [_or_nothing(factor.gate) for factor in factors]
    return free(None), [_or_nothing(factor.product) for factor in factors]


def handed_back(step: Step, inputs: Sequence[Tensor], y: Tensor, factor: Factor) -> tuple[Any, list[Factor]]:
    """What a step without weights needs on the way back, and the factor of each of the tensors that it reads."""
    if step.kind == "add":
        return _add(step, inputs, y, factor)
    if step.kind == "concatenate":
        return (), _slices(step, inputs, factor)
    if step.kind == "multiply":
        return _multiply(inputs, factor)
    x = inputs[0]
    if step.kind == "average":
        return _average(step, x, y, factor)
    if step.kind == "max_pool":
        return _max_pool(step, x, y, factor)
    if step.kind == "relu":
        return (), [_relu(step, x, factor)]
    if step.kind == "leaky_relu":
        return (), [_leaky_relu(x, y, factor)]
    gate, product = (None if a is None else moved_back(step, a) for a in (factor.gate, factor.product))
    return (), [Factor(factor.multiple, gate, product)]


def _average(step: Step, x: Tensor, y: Tensor, factor: Factor) -> tuple[Any, list[Factor]]:
    epsilon = step.rule.groups[0].epsilon if step.rule else 0.0
    if factor.multiple and not epsilon:  # y over itself
        return _or_nothing(factor.gate), [times(x)]
    quotient = (1.0 if factor.product is None else factor.product) / stabilised(y, epsilon)
    return tf.clip_by_value(quotient, -LARGEST, LARGEST), [times(x)]


def _max_pool(step: Step, x: Tensor, y: Tensor, factor: Factor) -> tuple[Any, list[Factor]]:
    a = factor.gate if factor.multiple else factor.product
    if not step.tiles:
        return (x, y, _or_nothing(a)), [times(x) if factor.multiple else free(None)]
    winners = max_pool_transposed(step, x, y, tf.ones_like(y))
    if a is not None:
        winners *= spread(step, a)
    return (), [times(x, winners) if factor.multiple else free(winners)]


def _relu(step: Step, x: Tensor, factor: Factor) -> Factor:
    gate, product = factor.gate, factor.product
    if step.max_value is not None:
        below = tf.cast(x < step.max_value, x.dtype)
        product = below if product is None else product * below
        gate = below if gate is None else gate * below
    if not factor.multiple:
        return free(product)
    positive = tf.cast(x > 0, x.dtype)
    return times(x, positive if gate is None else positive * gate, product)


def _leaky_relu(x: Tensor, y: Tensor, factor: Factor) -> Factor:
    """The gradient: relevance times the slope."""
    slope = tf.where(x > 0, 1.0, y / tf.where(tf.equal(x, 0.0), 1.0, x))
    if not factor.multiple:
        return free(slope if factor.product is None else slope * factor.product)
    return times(x, slope**2 if factor.gate is None else slope**2 * factor.gate)


def _add(step: Step, inputs: Sequence[Tensor], y: Tensor, factor: Factor) -> tuple[Any, list[Factor]]:
    if step.sharing == "z":
        if factor.multiple:
            return (), [times(a, factor.gate) for a in inputs]
        return _quotient(factor, y), [times(a) for a in inputs]
    # What has the sign of the sum shares its relevance: no share is above the whole.
    same = [tf.cast(a * y > 0, y.dtype) for a in inputs]
    total = tf.add_n([a * mask for a, mask in zip(inputs, same, strict=True)])
    if not factor.multiple:
        return _quotient(factor, total), [times(a, mask) for a, mask in zip(inputs, same, strict=True)]
    share = y / stabilised(total, 0.0)
    if factor.gate is not None:
        share *= factor.gate
    return (), [times(a, share * mask) for a, mask in zip(inputs, same, strict=True)]


def _quotient(factor: Factor, denominator: Tensor) -> Tensor:
    quotient = (1.0 if factor.product is None else factor.product) / stabilised(denominator, 0.0)
    return tf.clip_by_value(quotient, -LARGEST, LARGEST)


def _slices(step: Step, inputs: Sequence[Tensor], factor: Factor) -> list[Factor]:
    found, start = [], 0
    for shape, a in zip(step.befores, inputs, strict=True):
        part = slice(start, start + shape[-1])
        if factor.multiple:
            found.append(times(a, None if factor.gate is None else factor.gate[..., part]))
        else:
            found.append(free(None if factor.product is None else factor.product[..., part]))
        start += shape[-1]
    return found


def _multiply(inputs: Sequence[Tensor], factor: Factor) -> tuple[Any, list[Factor]]:
    """The gradient: each gets the relevance times the other, summed over the axes along which it was repeated."""
    first, second = inputs
    if not factor.multiple:
        a = 1.0 if factor.product is None else factor.product
        return (a * second, a * first), [free(None), free(None)]
    m = 1.0 if factor.gate is None else factor.gate
    return (m * second**2, m * first**2), [times(first), times(second)]


def moved_back(step: Step, x: Tensor) -> Tensor:
    """Undo a layer that only moves values."""
    if step.kind == "pad":
        (top, _), (left, _) = step.pads
        return x[:, top : top + step.before[0], left : left + step.before[1]]
    if step.kind == "reshape":
        return tf.reshape(in_full(step, x), (-1, *step.before))
    return x


def in_full(step: Step, x: Tensor) -> Tensor:
    """All channels of a step's output, where one stands for all."""
    return x if x.shape[-1] == step.after[-1] else tf.repeat(x, step.after[-1], axis=-1)


def spread(step: Step, x: Tensor) -> Tensor:
    """Copy each value to its whole window."""
    (height, width), (rows, columns), channels = step.after[:2], step.size, x.shape[-1]
    windows = tf.broadcast_to(
        x[:, :, None, :, None, :], (tf.shape(x)[0], height, rows, width, columns, channels)
    )
    return tf.reshape(windows, (-1, *step.before[:2], channels))


def max_pool_transposed(step: Step, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
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


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """A denominator that is nowhere zero."""
    if epsilon:
        return z + tf.where(z >= 0, epsilon, -epsilon)
    return tf.where(tf.equal(z, 0.0), TINY, z)


def _or_nothing(a: Tensor | None) -> Any:
    """A tensor, or an empty place for one in what a graph hands on."""
    return () if a is None else a
