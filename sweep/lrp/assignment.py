"""Which rule each layer of a network gets from a composite."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sweep.errors import InputError
from sweep.lrp import rules
from sweep.lrp.layers import KINDS, WEIGHTED, AveragePool, Conv, Dense, DepthwiseConv, Layer
from sweep.lrp.network import Reads, chain, first_weighted
from sweep.lrp.rules import Rule

Bias: TypeAlias = Literal["innvestigate", "split"]
Sharing: TypeAlias = Literal["z", "plus", "block"]
"""How a sum's relevance is shared among what was added (docs/lrp.md)."""
RULED: Mapping[type, str] = {
    Conv: "conv",
    DepthwiseConv: "conv",
    Dense: "dense",
    AveragePool: "average_pool",
}
"""Kinds that a composite has rules for, by layer."""


@dataclass(frozen=True)
class Composite:
    """Rules for a network's layers. Equal composites are interchangeable."""

    kinds: tuple[tuple[str, Rule], ...]
    """Rule of every convolution, dense layer and average pool, by kind."""
    first: tuple[tuple[str, Rule], ...] = ()
    """Rule of the first layers with weights, those that see the input through no other, where they are of that kind."""
    positions: tuple[tuple[int, Rule], ...] = ()
    """Rule by position among the layers with weights; negative positions count from the end."""
    names: tuple[tuple[str, Rule], ...] = ()
    """Rule by layer name."""
    flat_until: int | str | None = None
    """The flat rule from the first layer with weights to this one, given by position or name."""
    add: Sharing | None = None
    """How sums share their relevance; None leaves it to `sharing`."""

    @property
    def sharing(self) -> Sharing:
        """How sums share their relevance: as given, else `plus` where convolutions keep signs apart, else `z`."""
        if self.add is not None:
            return self.add
        conv = dict(self.kinds).get("conv")
        return "plus" if conv is not None and conv.keeps_signs_apart else "z"

    def rules(
        self, layers: Sequence[Layer], bias: Bias = "innvestigate", reads: Reads | None = None
    ) -> tuple[Rule | None, ...]:
        """The rule of each layer of a network; None where a layer needs none. Without `reads` the layers are a chain.

        Raises InputError for a name or position that the network lacks, and for the z-box rule anywhere but at the
        first layers with weights.
        """
        if bias not in ("innvestigate", "split"):
            raise InputError(f"relevance.bias: '{bias}' is neither 'innvestigate' nor 'split'")
        weighted = [index for index, layer in enumerate(layers) if isinstance(layer, WEIGHTED)]
        first = first_weighted(layers, chain(len(layers)) if reads is None else reads)
        kinds = [RULED.get(type(layer), "") for layer in layers]
        chosen: list[Rule | None] = [dict(self.kinds).get(kind) for kind in kinds]
        for index in first:
            chosen[index] = dict(self.first).get(kinds[index], chosen[index])
        last_flat = self.flat_until_index(layers)
        if last_flat is not None:
            for index in weighted[: 1 + weighted.index(last_flat)]:
                chosen[index] = rules.flat()
        positions: dict[int, int] = {}
        for position, given in self.positions:
            index = weighted[self._position(position, layers, weighted)]
            other = positions.setdefault(index, position)
            if other != position:
                raise InputError(
                    f"composite.positions: {other} and {position} are the same layer, '{layers[index].name}'; give one"
                )
            chosen[index] = given
        for name, given in self.names:
            matching = [i for i, layer in enumerate(layers) if layer.name == name and chosen[i] is not None]
            if not matching:
                raise InputError(
                    f"composite: no layer with a rule is named '{name}'{suggest(name, _names(layers))}"
                )
            for index in matching:
                chosen[index] = given
        for index, rule in enumerate(chosen):
            if rule is None and isinstance(layers[index], WEIGHTED):
                kind = KINDS[type(layers[index])]
                raise InputError(
                    f"composite: has no rule for layer {index} ({kind} '{layers[index].name}'); add kinds.{kinds[index]}"
                )
            if rule and rule.needs_bounds and index not in first:
                raise InputError(
                    f"composite: layer {index} '{layers[index].name}' cannot have the rule z_box; "
                    "only the first layer with weights sees the input's range"
                )
            if rule and isinstance(layers[index], AveragePool) and not _is_epsilon(rule):
                raise InputError(
                    f"composite: average pool '{layers[index].name}' takes the rules z and epsilon only"
                )
        if bias == "innvestigate":
            chosen = [rule and rules.with_whole_bias(rule) for rule in chosen]
        return tuple(chosen)

    def flat_until_index(self, layers: Sequence[Layer]) -> int | None:
        """Index among the layers of the last one that `flat_until` names."""
        if self.flat_until is None:
            return None
        weighted = [index for index, layer in enumerate(layers) if isinstance(layer, WEIGHTED)]
        return weighted[self._position(self.flat_until, layers, weighted)]

    def _position(self, place: int | str, layers: Sequence[Layer], weighted: Sequence[int]) -> int:
        if isinstance(place, str):
            for position, index in enumerate(weighted):
                if layers[index].name == place:
                    return position
            raise InputError(
                f"composite: no layer with weights is named '{place}'{suggest(place, _names(layers))}"
            )
        if not -len(weighted) <= place < len(weighted):
            raise InputError(
                f"composite: position {place} is outside the {len(weighted)} layers with weights"
            )
        return place % len(weighted)


def _is_epsilon(rule: Rule) -> bool:
    return len(rule.groups) == 1 and rule == rules.epsilon(rule.groups[0].epsilon)


def _names(layers: Sequence[Layer]) -> list[str]:
    return [layer.name for layer in layers if layer.name]


def suggest(given: object, known: Sequence[str] | Mapping[str, Any]) -> str:
    """The end of a message about an unknown name: what may have been meant, else what is known."""
    near = difflib.get_close_matches(str(given), list(known), n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""
