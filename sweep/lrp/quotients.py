"""Quotients of relevance and denominator for layers with weights, computed once per image."""

import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import tensorflow as tf

from sweep.lrp import winograd
from sweep.lrp.factors import LARGEST, Factor, free, stabilised, times
from sweep.lrp.linear import Tensor, Weights, key, linear
from sweep.lrp.rules import ONES, PLAIN, Group, Input, Modifier, Rule, Term
from sweep.lrp.steps import Step


class Denominators:
    """The denominators of one layer's rule."""

    def __init__(self, step: Step, weights: Weights, x: Tensor, bounds: Tensor | None) -> None:
        self._step, self._weights, self._x, self._bounds = step, weights, x, bounds
        self._products: dict[tuple[Any, ...], Tensor] = {}

    def of(self, place: int) -> tuple[Tensor, bool]:
        """Z of the rule's group at a place, and whether it comes from a product that rounds more (docs/lrp.md)."""
        group = rule_of(self._step).groups[place]
        kernel = group.terms[0].kernel
        fast = self._weights.get(key("denominator factors", kernel)) if group.is_above_output else None
        if fast is None:
            z = total([signed(term.weight, self._product(term)) for term in group.terms])
        else:
            z = winograd.convolution(self._x, fast)
        if group.bias is not None:
            z += self._weights[key("bias", group.bias)]
        return z, fast is not None

    def plain(self) -> Tensor:
        """The pre-activation."""
        return self._product(Term("plain", PLAIN)) + self._weights.get("bias", 0.0)

    def _product(self, term: Term) -> Tensor:
        known = (term.input, term.kernel)
        if known not in self._products:
            self._products[known] = self._computed(term)
        return self._products[known]

    def _computed(self, term: Term) -> Tensor:
        step = self._step
        if term.kernel != ONES or not step.has_one_share:
            x = seen(term.input, self._x, self._bounds)
            return linear(step, x, self._weights[key("kernel", term.kernel)])
        if len(step.kernel_shape) == 2:
            return tf.constant(float(step.before[0]), shape=(1, 1))
        one_channel = tf.ones((1, *step.before[:2], 1))
        return linear(step, one_channel, self._weights[key("kernel", ONES)]) * float(step.before[-1])


def quotients(step: Step, denominators: Denominators, y: Tensor, factor: Factor) -> Sequence[Tensor]:
    """A / Z of each group; `y` is the layer's output."""
    if factor.quotients:
        return factor.quotients
    found = []
    for place, group in enumerate(rule_of(step).groups):
        z, is_fast = denominators.of(place)
        quotient = _over(group, factor, z, y if is_fast else None)
        if group.where != "everywhere":
            plain = denominators.plain()
            quotient = tf.where(plain > 0 if group.where == "positive" else plain < 0, quotient, 0.0)
        found.append(quotient)
    return found


def of_inputs(step: Step, x: Tensor, bounds: Tensor | None) -> tuple[list[Tensor], Factor]:
    """What the relevance of a layer's input is put together with from its terms, and its factor."""
    if step.inputs == ["ones"]:
        return [], free(None)
    if not step.keeps_multiples:
        return [seen(name, x, bounds) for name in step.inputs], free(None)
    if len(step.inputs) == 1:
        return [], times(x)
    # The relevance of an input is a multiple of it, by one sum where it is positive and by another where it is not.
    return [x >= 0], times(x)


def of_block(
    step: Step, parts: Sequence[Denominators | None], inputs: Sequence[Tensor], y: Tensor, factor: Factor
) -> list[Factor]:
    """Factors of what a sum adds where it is one layer together with those before it that are in the block.

    `parts` are the denominators of these layers. What comes from elsewhere is added as by a kernel of 1.
    """
    shared = []
    for place, group in enumerate(rule_of(step).groups):
        known = [None if part is None else part.of(place) for part in parts]
        z = total(
            [_summand(group, a) if one is None else one[0] for one, a in zip(known, inputs, strict=True)]
        )
        shared.append(_over(group, factor, z, y if any(one and one[1] for one in known) else None))
    gates = [
        total(
            [
                signed(_weight(group, sign), quotient)
                for group, quotient in zip(rule_of(step).groups, shared, strict=True)
            ]
        )
        for sign in ("positive", "negative")
    ]
    return [
        times(a, tf.where(a >= 0, *gates)) if part is None else Factor(factor.multiple, None, None, shared)
        for part, a in zip(parts, inputs, strict=True)
    ]


def _summand(group: Group, a: Tensor) -> Tensor:
    """What a tensor adds to a group's denominator by a kernel of 1."""
    return total(
        [signed(term.weight * _of_one(term.kernel), seen(term.input, a, None)) for term in group.terms]
    )


def _weight(group: Group, sign: str) -> float:
    """By what a group's quotient is multiplied for an input of this sign and a kernel of 1."""
    return sum(term.weight * _of_one(term.kernel) for term in group.terms if term.input in ("plain", sign))


def _of_one(modifier: Modifier) -> float:
    return float((modifier.plain + modifier.positive) ** modifier.power)


def _over(group: Group, factor: Factor, z: Tensor, floor: Tensor | None) -> Tensor:
    """A group's quotient. `floor` is the pre-activation, where Z matters only as far as that is positive."""
    if floor is not None:  # so that what the fast product rounds never makes a small denominator smaller
        z = tf.maximum(z, floor)
    a = 1.0 if factor.product is None else factor.product
    return tf.clip_by_value(group.weight * a / stabilised(z, group.epsilon), -LARGEST, LARGEST)


def seen(name: Input, x: Tensor, bounds: Tensor | None) -> Tensor:
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


def rule_of(step: Step) -> Rule:
    """The rule of a layer that needs one."""
    if step.rule is None:
        raise ValueError(f"a layer of shape {step.kernel_shape} has no rule")
    return step.rule


def total(parts: Iterable[Tensor]) -> Tensor:
    """The sum, without a zero to begin with."""
    return reduce(operator.add, parts)


def signed(weight: float, x: Tensor) -> Tensor:
    """The weighted tensor, without a product where the weight is 1."""
    return x if weight == 1.0 else weight * x
