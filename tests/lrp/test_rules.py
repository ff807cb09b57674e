"""Every rule and preset against its NumPy float64 twin, on random networks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sweep.lrp import COMPOSITES, Network, graph, relevance
from sweep.lrp.assignment import Bias
from sweep.lrp.program import Program
from tests.lrp import nets, twin
from tests.lrp.twin import LinearRule

TOLERANCE = 1e-5
"""Of the map's maximum."""

RULES: dict[str, tuple[dict[str, Any], LinearRule]] = {
    "z": ({"rule": "z"}, twin.epsilon_rule(0)),
    "epsilon": ({"rule": "epsilon", "epsilon": 0.05}, twin.epsilon_rule(0.05)),
    "alpha1_beta0": ({"rule": "alpha_beta", "alpha": 1, "beta": 0}, twin.alpha_beta_rule(1, 0)),
    "alpha2_beta1": ({"rule": "alpha_beta", "alpha": 2, "beta": 1}, twin.alpha_beta_rule(2, 1)),
    "alpha1.7_beta0.7": ({"rule": "alpha_beta", "alpha": 1.7, "beta": 0.7}, twin.alpha_beta_rule(1.7, 0.7)),
    "gamma": ({"rule": "gamma", "gamma": 0.3}, twin.gamma_rule(0.3)),
    "w_square": ({"rule": "w_square"}, twin.w_square_rule()),
    "flat": ({"rule": "flat"}, twin.flat_rule()),
}

# The same draws in every run: a search that keeps looking would in time find what no float32 program can meet.
on_random_networks = settings(
    max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
BIASES = st.sampled_from(("innvestigate", "split"))
SEEDS = st.integers(0, 2**32 - 1)


def check(
    network: Network, composite: Any, rules: list[LinearRule], bias: Bias, seed: int, add: str = "z"
) -> None:
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((2, *network.input_shape)).astype(np.float32)
    bounds = (np.full(network.input_shape[2], -4.0), np.linspace(4.0, 5.0, network.input_shape[2]))
    targets = rng.integers(0, network.output_shape[0], 2)

    def twins(net: Network) -> Any:
        pairs = [
            twin.relevance(
                net, image, rules, int(target), whole_bias=bias == "innvestigate", bounds=bounds, add=add
            )
            for image, target in zip(images, targets, strict=True)
        ]
        return [np.array(part) for part in zip(*pairs, strict=True)]

    expected, expected_logits = twins(network)
    largest = np.abs(expected).max(axis=(1, 2), keepdims=True)
    # Where a logit or a denominator nearly cancels, no float32 computation can be near: leave out logits close to
    # zero, and draws that change by more than this when their weights move within float32's rounding.
    assume((np.abs(expected_logits[[0, 1], targets]) > 0.05).all())
    moved = np.abs(twins(nets.jittered(network, rng))[0] - expected)
    assume((moved <= 1e-6 * largest).all())
    maps, logits = relevance(network, images, targets, composite, bias, bounds=bounds, return_logits=True)
    np.testing.assert_allclose(logits, expected_logits, atol=1e-5)
    assert (np.abs(maps - expected) <= TOLERANCE * largest).all()


@pytest.mark.parametrize("name", RULES)
@on_random_networks
@given(network=nets.networks(), bias=BIASES, seed=SEEDS)
def test_rule_agrees_with_its_twin(name: str, network: Network, bias: Bias, seed: int) -> None:
    given_rule, rule = RULES[name]
    composite = {"kinds": {"conv": given_rule, "dense": given_rule}}
    check(network, composite, nets.rules_of(network, rule, rule, twin.epsilon_rule(0)), bias, seed)


@on_random_networks
@given(network=nets.networks(), bias=BIASES, seed=SEEDS)
def test_z_box_agrees_with_its_twin(network: Network, bias: Bias, seed: int) -> None:
    composite = {"kinds": {"conv": "z", "dense": "z"}, "positions": {0: "z_box"}}
    z, box = twin.epsilon_rule(0), twin.z_box_rule()
    check(network, composite, nets.rules_of(network, z, z, z, first_conv=box, first_dense=box), bias, seed)


@pytest.mark.parametrize("name", COMPOSITES)
@settings(on_random_networks, max_examples=8)
@given(network=nets.networks(), bias=BIASES, seed=SEEDS)
def test_preset_agrees_with_its_twin(name: str, network: Network, bias: Bias, seed: int) -> None:
    check(network, name, nets.preset_rules(name, network), bias, seed)


@contextmanager
def untraced() -> Iterator[None]:
    """The engine's graphs run operation by operation: tracing takes longer than a small network's maps."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("run", "record", "propagate"):
            function = getattr(graph, name)
            patch.setattr(
                Program, name, lambda self, *given, _run=function, **more: _run(self.steps, *given, **more)
            )
        yield


@pytest.mark.parametrize(
    ("name", "add"),
    [
        *[(name, add) for name in ("preset_a", "preset_b") for add in ("z", "plus", "block")],
        ("preset_a_flat", "plus"),
        ("preset_b_flat", "block"),
        ("epsilon_plus_flat", "plus"),
        ("epsilon_alpha2_beta1", "z"),
        ("epsilon_gamma_box", "z"),
    ],
)
@settings(on_random_networks, max_examples=6)
@given(network=nets.graphs(), bias=BIASES, seed=SEEDS)
def test_preset_agrees_with_its_twin_on_graphs(
    name: str, add: str, network: Network, bias: Bias, seed: int
) -> None:
    composite = {"preset": name, "kinds": {"add": add}}
    with untraced():
        check(network, composite, nets.preset_rules(name, network), bias, seed, add)


@pytest.mark.parametrize("name", RULES)
@settings(on_random_networks, max_examples=4)
@given(network=nets.graphs(), bias=BIASES, seed=SEEDS)
def test_rule_agrees_with_its_twin_on_graphs(name: str, network: Network, bias: Bias, seed: int) -> None:
    given_rule, rule = RULES[name]
    composite = {"kinds": {"conv": given_rule, "dense": "z", "add": "plus"}}
    z = twin.epsilon_rule(0)
    with untraced():
        check(network, composite, nets.rules_of(network, rule, z, z), bias, seed, "plus")
