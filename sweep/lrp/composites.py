"""Composites: which rule each layer of a network gets.

A composite is a preset's name, or a mapping as a study file holds it:

    composite:
      preset: preset_a_flat                  # optional: what to start from
      kinds: {conv: {rule: alpha_beta, alpha: 2, beta: 1}, dense: epsilon}
      positions: {0: flat, -1: z}            # counts layers with weights; negative from the end
      names: {block1_conv1: w_square}

A layer's name decides before its position, its position before its kind. `kinds` also takes `add`, how sums share
their relevance: `z`, `plus` or `block`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sweep.errors import InputError
from sweep.lrp import rules
from sweep.lrp.assignment import Composite, Sharing, suggest
from sweep.lrp.rules import Rule

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

_KINDS = ("conv", "dense", "average_pool", "add")
_SHARINGS: tuple[Sharing, ...] = ("z", "plus", "block")
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
            raise InputError(f"composite: unknown key '{key}'{suggest(key, _KEYS)}")
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
        add=_sharing(given),
        kinds=tuple((dict(base.kinds) | kinds).items()),
        positions=tuple(_rules(given, "positions", _integer).items()),
        names=tuple(_rules(given, "names", _name).items()),
        flat_until=until,
    )


def _named(name: object) -> Composite:
    if not isinstance(name, str) or name not in _PRESETS:
        raise InputError(f"composite: no preset is called '{name}'{suggest(name, COMPOSITES)}")
    return _PRESETS[name]


def _rules(given: Mapping[str, Any], key: str, read: Callable[[object, str], Any]) -> dict[Any, Rule]:
    entries = given.get(key, {})
    if not isinstance(entries, Mapping):
        raise InputError(f"composite.{key}: must map each of them to a rule, as in {{{_EXAMPLES[key]}}}")
    found: dict[Any, Rule] = {}
    for place, rule in entries.items():
        name = read(place, key)
        if name == "add" and key == "kinds":
            continue
        if name in found:
            raise InputError(f"composite.{key}: names {name} more than once")
        found[name] = _rule(f"composite.{key}.{place}", rule)
    return found


def _sharing(given: Mapping[str, Any]) -> Sharing | None:
    """What `kinds.add` says."""
    named = given.get("kinds", {}).get("add")
    for sharing in _SHARINGS:
        if named == sharing:
            return sharing
    if named is not None:
        raise InputError(
            f"composite.kinds.add: must be {', '.join(_SHARINGS[:-1])} or {_SHARINGS[-1]}, not {named!r}"
        )
    return None


_EXAMPLES = {"kinds": "conv: flat", "positions": "0: flat", "names": "block1_conv1: flat"}


def _kind(place: object, key: str) -> str:
    if place not in _KINDS:
        raise InputError(
            f"composite.{key}: no rule can be given to the kind '{place}'{suggest(place, _KINDS)}"
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
        raise InputError(f"{place}: no rule is called '{name}'{suggest(name, RULES)}")
    build, defaults = RULES[name]
    values = dict(defaults)
    for key, value in settings.items():
        if key == "rule":
            continue
        if key not in defaults:
            raise InputError(f"{place}: the rule {name} has no setting '{key}'{suggest(key, defaults)}")
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
