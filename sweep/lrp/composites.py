"""Composites: which rule each layer of a network gets.

A composite is a preset's name, or a mapping as a study file holds it:

    composite:
      preset: preset_a_flat                  # optional: what to start from
      kinds: {conv: {rule: alpha_beta, alpha: 2, beta: 1}, dense: epsilon}
      positions: {0: flat, -1: z}            # counts layers with weights; negative from the end
      names: {block1_conv1: w_square}

A layer's name decides before its position, its position before its kind.
"""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from sweep.errors import InputError
from sweep.lrp import rules
from sweep.lrp.network import KINDS, AveragePool, Conv, Dense, Layer
from sweep.lrp.rules import Rule

Bias: TypeAlias = Literal["innvestigate", "split"]
LARGEST = 3e38  # the engine computes in float32

RULES: dict[str, tuple[Callable[..., Rule], dict[str, float]]] = {
    "z": (rules.z, {}),
    "epsilon": (rules.epsilon, {"epsilon": 1e-6}),
    "alpha_beta": (rules.alpha_beta, {"alpha": 1.0, "beta": 0.0, "epsilon": 0.0}),
    "gamma": (rules.gamma, {"gamma": 0.25, "epsilon": 0.0}),
    "w_square": (rules.w_square, {"epsilon": 0.0}),
    "flat": (rules.flat, {"epsilon": 0.0}),
    "z_box": (rules.z_box, {"epsilon": 0.0}),
    "bounded": (rules.z_box, {"epsilon": 0.0}),
}
"""Rules by name, with their parameters and what these are when left out; 'bounded' is another name of 'z_box'."""


@dataclass(frozen=True)
class Composite:
    """Rules for a network's layers. Equal composites are interchangeable."""

    kinds: tuple[tuple[str, Rule], ...]
    """Rule of every convolution, dense layer and average pool, by kind."""
    first: tuple[tuple[str, Rule], ...] = ()
    """Rule of the first layer with weights, where it is of that kind."""
    positions: tuple[tuple[int, Rule], ...] = ()
    """Rule by position among the layers with weights; negative positions count from the end."""
    names: tuple[tuple[str, Rule], ...] = ()
    """Rule by layer name."""
    flat_until: int | str | None = None
    """The flat rule from the first layer with weights to this one, given by position or name."""

    def rules(self, layers: Sequence[Layer], bias: Bias = "innvestigate") -> tuple[Rule | None, ...]:
        """The rule of each layer of a chain; None where a layer needs none.

        Raises InputError for a name or position that the chain lacks, and for the z-box rule anywhere but at the
        first layer with weights.
        """
        if bias not in ("innvestigate", "split"):
            raise InputError(f"relevance.bias: '{bias}' is neither 'innvestigate' nor 'split'")
        weighted = [index for index, layer in enumerate(layers) if isinstance(layer, Conv | Dense)]
        chosen: list[Rule | None] = [dict(self.kinds).get(KINDS[type(layer)]) for layer in layers]
        if weighted:
            first = weighted[0]
            chosen[first] = dict(self.first).get(KINDS[type(layers[first])], chosen[first])
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
                    f"composite: no layer with a rule is named '{name}'{_suggest(name, _names(layers))}"
                )
            for index in matching:
                chosen[index] = given
        for index, rule in enumerate(chosen):
            if rule is None and isinstance(layers[index], Conv | Dense):
                kind = KINDS[type(layers[index])]
                raise InputError(
                    f"composite: has no rule for layer {index} ({kind} '{layers[index].name}'); add kinds.{kind}"
                )
            if rule and rule.needs_bounds and index not in weighted[:1]:
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
        """Index in the chain of the last layer that `flat_until` names."""
        if self.flat_until is None:
            return None
        weighted = [index for index, layer in enumerate(layers) if isinstance(layer, Conv | Dense)]
        return weighted[self._position(self.flat_until, layers, weighted)]

    def _position(self, place: int | str, layers: Sequence[Layer], weighted: Sequence[int]) -> int:
        if isinstance(place, str):
            for position, index in enumerate(weighted):
                if layers[index].name == place:
                    return position
            raise InputError(
                f"composite: no layer with weights is named '{place}'{_suggest(place, _names(layers))}"
            )
        if not -len(weighted) <= place < len(weighted):
            raise InputError(
                f"composite: position {place} is outside the {len(weighted)} layers with weights"
            )
        return place % len(weighted)


def _preset(
    dense: Rule,
    conv: Rule,
    *,
    first: Rule | None = None,
    first_dense: Rule | None = None,
    pool: Rule | None = None,
) -> Composite:
    firsts = [("conv", first), ("dense", first_dense)]
    return Composite(
        kinds=(("dense", dense), ("conv", conv), ("average_pool", pool or rules.z())),
        first=tuple((kind, rule) for kind, rule in firsts if rule is not None),
    )


def _presets() -> dict[str, Composite]:
    """The presets of iNNvestigate 2.1.2 (Kohlbrenner et al. 2020) and of zennit (Anders et al. 2021).

    zennit stabilises every denominator by 1e-6 and splits biases by sign; the latter is `bias: split` here.
    """
    tenth, flat = rules.epsilon(0.1), rules.flat()
    a, b = rules.alpha_beta(1, 0), rules.alpha_beta(2, 1)
    s = 1e-6
    small, flat_s = rules.epsilon(s), rules.flat(s)
    plus, alpha2_beta1 = rules.alpha_beta(1, 0, s), rules.alpha_beta(2, 1, s)
    return {
        "preset_a": _preset(tenth, a),
        "preset_b": _preset(tenth, b),
        "preset_a_flat": _preset(tenth, a, first=flat, first_dense=flat),
        "preset_b_flat": _preset(tenth, b, first=flat, first_dense=flat),
        "preset_b_flat_until": _preset(tenth, b, first=flat, first_dense=flat),
        "epsilon_plus": _preset(small, plus, pool=small),
        "epsilon_plus_flat": _preset(small, plus, first=flat_s, first_dense=flat_s, pool=small),
        "epsilon_alpha2_beta1": _preset(small, alpha2_beta1, pool=small),
        "epsilon_alpha2_beta1_flat": _preset(
            small, alpha2_beta1, first=flat_s, first_dense=flat_s, pool=small
        ),
        "epsilon_gamma_box": _preset(small, rules.gamma(0.25, s), first=rules.z_box(s), pool=small),
    }


_PRESETS = _presets()
COMPOSITES: tuple[str, ...] = tuple(_PRESETS)
"""Names of the presets."""

_KINDS = ("conv", "dense", "average_pool")
_KEYS = ("preset", "kinds", "positions", "names", "until")


def composite(given: str | Mapping[str, Any] | Composite) -> Composite:
    """Build a composite from a preset's name or a mapping (see the module's text).

    Without `preset`, a mapping must name a rule for the kinds it uses; average pools get z. The preset
    `preset_b_flat_until` takes `until`: the last layer, by name or position, that has the flat rule. By its bare
    name it is `preset_b_flat`, as in iNNvestigate.

    Raises InputError with one line that names the place and the remedy.
    """
    if isinstance(given, Composite):
        return given
    if isinstance(given, str):
        return _named(given)
    if not isinstance(given, Mapping):
        raise InputError(f"composite: must be a preset's name or a mapping, not {type(given).__name__}")
    for key in given:
        if key not in _KEYS:
            raise InputError(f"composite: unknown key '{key}'{_suggest(key, _KEYS)}")
    preset = given.get("preset")
    base = _named(preset) if preset is not None else Composite(kinds=(("average_pool", rules.z()),))
    until = given.get("until")
    if until is not None:
        if preset != "preset_b_flat_until":
            raise InputError("composite.until: belongs to the preset preset_b_flat_until only")
        if isinstance(until, bool) or not isinstance(until, int | str):
            raise InputError(f"composite.until: must be a layer's name or position, not {until!r}")
    kinds = _rules(given, "kinds", _kind)
    return replace(
        base,
        kinds=tuple((dict(base.kinds) | kinds).items()),
        positions=tuple(_rules(given, "positions", _integer).items()),
        names=tuple(_rules(given, "names", _name).items()),
        flat_until=until,
    )


def _named(name: object) -> Composite:
    if not isinstance(name, str) or name not in _PRESETS:
        raise InputError(f"composite: no preset is called '{name}'{_suggest(name, COMPOSITES)}")
    return _PRESETS[name]


def _rules(given: Mapping[str, Any], key: str, read: Callable[[object, str], Any]) -> dict[Any, Rule]:
    entries = given.get(key, {})
    if not isinstance(entries, Mapping):
        raise InputError(f"composite.{key}: must map each of them to a rule, as in {{{_EXAMPLES[key]}}}")
    found: dict[Any, Rule] = {}
    for place, rule in entries.items():
        name = read(place, key)
        if name in found:
            raise InputError(f"composite.{key}: names {name} more than once")
        found[name] = _rule(f"composite.{key}.{place}", rule)
    return found


_EXAMPLES = {"kinds": "conv: flat", "positions": "0: flat", "names": "block1_conv1: flat"}


def _kind(place: object, key: str) -> str:
    if place not in _KINDS:
        raise InputError(
            f"composite.{key}: no rule can be given to the kind '{place}'{_suggest(place, _KINDS)}"
        )
    return str(place)


def _integer(place: object, key: str) -> int:
    try:
        if isinstance(place, bool) or not isinstance(place, int | str) or "_" in str(place):
            raise ValueError
        return int(place)
    except ValueError:
        raise InputError(f"composite.{key}: '{place}' is not a whole number") from None


def _name(place: object, key: str) -> str:
    if not isinstance(place, str) or not place:
        raise InputError(f"composite.{key}: {place!r} is not a layer's name")
    return place


def _rule(place: str, given: object) -> Rule:
    settings = {"rule": given} if isinstance(given, str) else given
    if not isinstance(settings, Mapping) or "rule" not in settings:
        raise InputError(f"{place}: must be a rule's name or a mapping with the key 'rule'")
    name = settings["rule"]
    if not isinstance(name, str) or name not in RULES:
        raise InputError(f"{place}: no rule is called '{name}'{_suggest(name, RULES)}")
    build, defaults = RULES[name]
    values = dict(defaults)
    for key, value in settings.items():
        if key == "rule":
            continue
        if key not in defaults:
            raise InputError(f"{place}: the rule {name} has no setting '{key}'{_suggest(key, defaults)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
            raise InputError(
                f"{place}.{key}: must be a number of 0 or more that float32 holds, not {value!r}"
            )
        values[key] = float(value)
    if name == "alpha_beta" and not math.isclose(values["alpha"] - values["beta"], 1):
        raise InputError(
            f"{place}: alpha - beta must be 1, or relevance is made or lost in every layer; "
            f"not {values['alpha']:g} - {values['beta']:g}"
        )
    return build(**values)


def _is_epsilon(rule: Rule) -> bool:
    return len(rule.groups) == 1 and rule == rules.epsilon(rule.groups[0].epsilon)


def _names(layers: Sequence[Layer]) -> list[str]:
    return [layer.name for layer in layers if layer.name]


def _suggest(given: object, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(str(given), list(known), n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""
