"""Propagation rules, each a handful of values.

A rule splits a layer's pre-activation into groups of terms. With R the relevance of the layer's outputs, `*` its
linear map and `*ᵀ` the transpose, a group has the denominator

    Z = sum over terms of weight · (kernel * input)  +  bias

and gives its inputs

    R_in = group weight · sum over terms of weight · input · (kernel *ᵀ (R / Z)).

The parts of the bias are lost, never redistributed.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

Input: TypeAlias = Literal["plain", "positive", "negative", "ones", "low", "high"]
"""Which input a term sees: x, max(x, 0), min(x, 0), ones, or an end of the input's valid range."""


class Modifier(NamedTuple):
    """Changes weights elementwise: w to (plain·w + positive·max(w, 0) + negative·min(w, 0)) ** power."""

    plain: float
    positive: float = 0.0
    negative: float = 0.0
    power: int = 1


PLAIN = Modifier(1.0)
POSITIVE = Modifier(0.0, positive=1.0)
NEGATIVE = Modifier(0.0, negative=1.0)
SQUARE = Modifier(1.0, power=2)
ONES = Modifier(1.0, power=0)


class Term(NamedTuple):
    """One product of an input and a kernel."""

    input: Input
    kernel: Modifier
    weight: float = 1.0


@dataclass(frozen=True)
class Group:
    """Terms that share a denominator."""

    terms: tuple[Term, ...]
    bias: Modifier | None = None
    """How the bias enters the denominator; None leaves it out."""
    weight: float = 1.0
    epsilon: float = 0.0
    """Added to the denominator with its sign (+1 at zero). 0 guards exact zeros only, by 1e-7."""
    where: Literal["everywhere", "positive", "negative"] = "everywhere"
    """Restricts the group to outputs whose plain pre-activation is above, or below, zero."""

    @property
    def is_above_output(self) -> bool:
        """Whether the denominator cannot be below the pre-activation, for the inputs that the terms are written for.

        It then has at least the positive parts of the pre-activation, and at most the negative ones.
        """
        parts = [term.kernel for term in self.terms] + ([self.bias] if self.bias else [])
        return [term.input for term in self.terms] == ["plain"] and all(
            part.power == 1 and part.plain + part.positive >= 1 >= part.plain + part.negative
            for part in parts
        )


@dataclass(frozen=True)
class Rule:
    """Groups whose relevances add up."""

    groups: tuple[Group, ...]

    @property
    def keeps_signs_apart(self) -> bool:
        """Whether positive and negative contributions have denominators of their own, as in alpha-beta."""
        return all(
            group.where == "everywhere" and {term.input for term in group.terms} == {"positive", "negative"}
            for group in self.groups
        )

    @property
    def needs_bounds(self) -> bool:
        """Whether the rule asks for the input's valid range."""
        return any(term.input in ("low", "high") for group in self.groups for term in group.terms)


def z() -> Rule:
    """LRP-0: in proportion to each contribution (Bach et al. 2015, eq. 56)."""
    return epsilon(0.0)


def epsilon(epsilon: float) -> Rule:
    """The z-rule with a stabilised denominator, which absorbs some relevance (Bach et al. 2015, eq. 58)."""
    return Rule((Group((Term("plain", PLAIN),), bias=PLAIN, epsilon=epsilon),))


def alpha_beta(alpha: float, beta: float, epsilon: float = 0.0) -> Rule:
    """Positive and negative contributions apart, weighted alpha and -beta (Bach et al. 2015, eq. 60).

    The bias is split by sign, as in the paper; see `with_whole_bias` for iNNvestigate's form.
    """
    groups = [Group((Term("positive", POSITIVE), Term("negative", NEGATIVE)), POSITIVE, alpha, epsilon)]
    if beta:
        groups.append(
            Group((Term("positive", NEGATIVE), Term("negative", POSITIVE)), NEGATIVE, -beta, epsilon)
        )
    return Rule(tuple(groups))


def gamma(gamma: float, epsilon: float = 0.0) -> Rule:
    """Favours contributions of the output's own sign (Montavon et al. 2019, section 10.2.1).

    In the form of Andéol et al. 2021, which also holds for negative inputs and outputs. For inputs and outputs
    >= 0 it is the original: kernel W + gamma·max(W, 0), bias alike.
    """
    up, down = Modifier(1.0, positive=gamma), Modifier(1.0, negative=gamma)
    return Rule(
        (
            Group((Term("positive", up), Term("negative", down)), up, 1.0, epsilon, "positive"),
            Group((Term("positive", down), Term("negative", up)), down, 1.0, epsilon, "negative"),
        )
    )


def w_square(epsilon: float = 0.0) -> Rule:
    """In proportion to the squared weights, blind to the input (Montavon et al. 2017, eq. 13)."""
    return Rule((Group((Term("ones", SQUARE),), epsilon=epsilon),))


def flat(epsilon: float = 0.0) -> Rule:
    """Evenly over the receptive field (Lapuschkin et al. 2019, supplement)."""
    return Rule((Group((Term("ones", ONES),), epsilon=epsilon),))


def z_box(epsilon: float = 0.0) -> Rule:
    """For inputs within a box [low, high], such as pixels (Montavon et al. 2017, eq. 15)."""
    return Rule(
        (
            Group(
                (Term("plain", PLAIN), Term("low", POSITIVE, -1.0), Term("high", NEGATIVE, -1.0)),
                epsilon=epsilon,
            ),
        )
    )


def with_whole_bias(rule: Rule) -> Rule:
    """The rule as iNNvestigate 2.1.2 computes it: the whole bias in every denominator that has a signed part of it."""
    whole = {POSITIVE: PLAIN, NEGATIVE: PLAIN}
    return Rule(tuple(replace(group, bias=whole.get(group.bias, group.bias)) for group in rule.groups))  # type: ignore[arg-type]


def for_nonnegative_input(rule: Rule) -> Rule:
    """The same rule, without the terms that vanish where no input is negative."""
    return Rule(
        tuple(
            replace(
                group,
                terms=tuple(
                    term._replace(input="plain") if term.input == "positive" else term
                    for term in group.terms
                    if term.input != "negative"
                ),
            )
            for group in rule.groups
        )
    )
