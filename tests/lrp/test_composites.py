from typing import Any

import numpy as np
import pytest

from sweep.errors import InputError
from sweep.lrp import COMPOSITES, Add, AveragePool, Composite, Flatten, Network, composite
from sweep.lrp import rules as r
from tests.lrp import nets

NETWORK = nets.small(0)


def rules_by_name(given: Any, network: Network = NETWORK) -> dict[str, r.Rule]:
    rules = composite(given).rules(network.layers, "split")
    return {
        layer.name: rule for layer, rule in zip(network.layers, rules, strict=True) if rule and layer.name
    }


def test_presets_by_name() -> None:
    assert rules_by_name("preset_a_flat") == {
        "first": r.flat(),
        "second": r.alpha_beta(1, 0),
        "third": r.alpha_beta(1, 0),
        "hidden": r.epsilon(0.1),
        "readout": r.epsilon(0.1),
    }
    assert set(COMPOSITES) >= {
        "preset_a",
        "preset_b",
        "preset_a_flat",
        "preset_b_flat",
        "preset_b_flat_until",
        "epsilon_plus",
        "epsilon_plus_flat",
        "epsilon_alpha2_beta1",
        "epsilon_alpha2_beta1_flat",
        "epsilon_gamma_box",
    }


def test_layers_without_weights_have_no_rule_but_average_pools_do() -> None:
    rules = composite("preset_a").rules(NETWORK.layers)
    with_rule = [
        layer.name or type(layer).__name__ for layer, rule in zip(NETWORK.layers, rules, strict=True) if rule
    ]
    assert with_rule == ["first", "second", "third", "AveragePool", "hidden", "readout"]


def test_name_decides_before_position_before_kind() -> None:
    given = {
        "preset": "preset_a",
        "kinds": {"dense": "z", "average_pool": {"rule": "epsilon", "epsilon": 0.2}},
        "positions": {0: "flat", "1": "w_square", -1: {"rule": "gamma", "gamma": 0.5}},
        "names": {"second": {"rule": "alpha_beta", "alpha": 2, "beta": 1}},
    }
    assert rules_by_name(given) == {
        "first": r.flat(),
        "second": r.alpha_beta(2, 1),
        "third": r.alpha_beta(1, 0),
        "hidden": r.z(),
        "readout": r.gamma(0.5),
    }
    rules = composite(given).rules(NETWORK.layers)
    pool = next(i for i, layer in enumerate(NETWORK.layers) if isinstance(layer, AveragePool))
    assert rules[pool] == r.epsilon(0.2)


@pytest.mark.parametrize("until", ["second", 1])
def test_flat_until_a_layer(until: Any) -> None:
    chosen = rules_by_name({"preset": "preset_b_flat_until", "until": until})
    assert [chosen[name] == r.flat() for name in ("first", "second", "third", "hidden")] == [
        True,
        True,
        False,
        False,
    ]


def test_bias_conventions() -> None:
    whole = composite("preset_b").rules(NETWORK.layers)[2]
    assert whole is not None
    assert {group.bias for group in whole.groups} == {r.PLAIN}
    split = composite("preset_b").rules(NETWORK.layers, "split")[2]
    assert split is not None
    assert [group.bias for group in split.groups] == [r.POSITIVE, r.NEGATIVE]


def test_equal_settings_make_equal_composites() -> None:
    assert composite({"preset": "preset_a"}) == composite("preset_a")
    assert isinstance(composite("preset_a"), Composite)
    assert composite(composite("preset_a")) is composite("preset_a")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("preset_c", "no preset is called 'preset_c'; did you mean"),
        (3, "a preset's name or a mapping, not int"),
        ({"preset": ["preset_a"]}, "no preset is called"),
        ({"kind": {}}, "unknown key 'kind'; did you mean 'kinds'"),
        ({"kinds": "flat"}, "composite.kinds: must map"),
        ({"kinds": {"convolution": "flat"}}, "kind 'convolution'; known: conv, dense"),
        (
            {"kinds": {"conv": "flatt"}},
            "composite.kinds.conv: no rule is called 'flatt'; did you mean 'flat'",
        ),
        ({"kinds": {"conv": {"alpha": 1}}}, "composite.kinds.conv: must be a rule's name or a mapping"),
        ({"kinds": {"conv": {"rule": "flat", "alpha": 1}}}, "the rule flat has no setting 'alpha'"),
        (
            {"kinds": {"conv": {"rule": "gamma", "gamma": "much"}}},
            "conv.gamma: must be a number of 0 or more",
        ),
        ({"kinds": {"conv": {"rule": "gamma", "gamma": -1}}}, "conv.gamma: must be a number of 0 or more"),
        (
            {"kinds": {"conv": {"rule": "gamma", "gamma": float("nan")}}},
            "conv.gamma: must be a number of 0 or more",
        ),
        ({"kinds": {"conv": {"rule": ["flat"]}}}, "no rule is called"),
        (
            {"kinds": {"conv": {"rule": "epsilon", "epsilon": 10**400}}},
            "conv.epsilon: must be a number of 0 or more",
        ),
        ({"kinds": {"conv": {"rule": "alpha_beta", "alpha": 2}}}, "conv: alpha - beta must be 1"),
        ({"kinds": {"conv": {"rule": "alpha_beta", "alpha": 2, "beta": 1.5}}}, "not 2 - 1.5"),
        ({"positions": {"first": "flat"}}, "composite.positions: 'first' is not a whole number"),
        ({"positions": {"1_0": "flat"}}, "composite.positions: '1_0' is not a whole number"),
        ({"positions": {"1": "flat", "01": "z"}}, "composite.positions: names 1 more than once"),
        ({"names": {"": "flat"}}, "composite.names: '' is not a layer's name"),
        ({"names": {1: "flat"}}, "composite.names: 1 is not a layer's name"),
        ({"preset": "preset_a", "until": 1}, "composite.until: belongs to"),
        (
            {"preset": "preset_b_flat_until", "until": 1.5},
            "composite.until: must be a layer's name or position",
        ),
    ],
)
def test_bad_settings_are_named(given: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        composite(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"preset": "preset_a", "names": {"fist": "flat"}}, "named 'fist'; did you mean 'first'"),
        ({"preset": "preset_a", "positions": {9: "flat"}}, "position 9 is outside the 5 layers"),
        (
            {"preset": "preset_a", "positions": {1: "flat", -4: "z"}},
            "positions: 1 and -4 are the same layer, 'second'",
        ),
        ({"preset": "preset_a", "names": {"second": "z_box"}}, "'second' cannot have the rule z_box"),
        ({"preset": "preset_a", "kinds": {"average_pool": "flat"}}, "takes the rules z and epsilon only"),
        ({"preset": "preset_b_flat_until", "until": "forth"}, "named 'forth'"),
        ({"kinds": {"conv": "flat"}}, "no rule for layer 9 \\(dense 'hidden'\\)"),
    ],
)
def test_settings_that_do_not_fit_the_network_are_named(given: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        composite(given).rules(NETWORK.layers)


def test_unknown_bias_convention() -> None:
    with pytest.raises(InputError, match="neither 'innvestigate' nor 'split'"):
        composite("preset_a").rules((Flatten(),), "whole")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("preset_a", "plus"),
        ("epsilon_alpha2_beta1_flat", "plus"),
        ("epsilon_gamma_box", "z"),
        ({"kinds": {"conv": "z", "dense": "z"}}, "z"),
        ({"preset": "preset_a", "kinds": {"conv": "gamma"}}, "z"),
        ({"preset": "preset_b", "kinds": {"add": "z"}}, "z"),
        ({"preset": "preset_a", "kinds": {"add": "block"}}, "block"),
    ],
)
def test_sums_share_by_plus_where_signs_are_kept_apart(given: Any, expected: str) -> None:
    assert composite(given).sharing == expected


@pytest.mark.parametrize("add", ["flat", {"rule": "z"}, 1])
def test_no_other_sharing(add: Any) -> None:
    with pytest.raises(InputError, match=r"composite\.kinds\.add: must be z, plus or block, not"):
        composite({"preset": "preset_a", "kinds": {"add": add}})


def test_every_layer_that_sees_the_input_through_no_other_is_a_first_one() -> None:
    rng = np.random.default_rng(0)
    layers = (
        nets.conv(rng, 3, 2, name="left"),
        nets.conv(rng, 3, 2, name="right"),
        Add(),
        nets.conv(rng, 2, 2),
    )
    reads = ((0,), (0,), (1, 2), (3,))
    assert composite("preset_a_flat").rules(layers, reads=reads) == (r.flat(), r.flat(), None, A)
    assert composite("preset_a_flat").rules(layers[:2]) == (r.flat(), A)  # one behind the other


A = r.with_whole_bias(r.alpha_beta(1, 0))
