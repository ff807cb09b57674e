"""How many observers and targets: the closed form against simulation, and against the figures of the notes."""

import numpy as np
import pytest
from scipy import stats

from sweep.human.power import WANTED, Effect, power, simulated_power, smallest
from sweep.human.simulating import Observers

EFFECT = Effect(0.54, 0.15, 0.9)


def test_variances_are_those_of_simulated_chances() -> None:
    rng = np.random.default_rng(0)
    effect = Effect(0.6, 0.7, 0.9)
    logit = effect.centre + 0.7 * rng.normal(size=(2000, 1)) + 0.9 * rng.normal(size=2000)
    chance = 1 / (1 + np.exp(-logit))
    observers, targets, answers = effect.variances
    assert chance.mean() == pytest.approx(0.6, abs=0.01)
    assert chance.mean(axis=1).var() == pytest.approx(observers, rel=0.1)
    assert chance.mean(axis=0).var() == pytest.approx(targets, rel=0.1)
    assert observers + targets + answers == pytest.approx(0.24)


@pytest.mark.parametrize("preference", [0.8, 0.2])
def test_simulated_observers_have_the_preference_that_the_tests_estimate(preference: float) -> None:
    observers = Observers(preference, sd_observers=0.5, sd_targets=1.5)
    chances = [observers.chance(number, f"t{target}") for number in range(60) for target in range(400)]
    # Standard error about 0.017; the chance of an average observer and target would lie 0.06 nearer to a half.
    assert np.mean(chances) == pytest.approx(preference, abs=0.04)
    average = 1 / (1 + np.exp(-Effect(preference, 0.5, 1.5).centre))
    assert abs(average - 0.5) > abs(preference - 0.5)


@pytest.mark.parametrize(
    ("effect", "observers", "targets"),
    [(EFFECT, 46, 95), (Effect(0.6, 0.5, 0.3), 20, 30), (Effect(0.5, 0.3, 0.9), 30, 40)],
)
def test_the_closed_form_is_near_the_simulation(effect: Effect, observers: int, targets: int) -> None:
    found = simulated_power(effect, observers, targets, 1000)
    assert found == pytest.approx(power(effect, observers, targets), abs=0.05)


@pytest.mark.parametrize(("observers", "targets"), [(3, 4), (46, 95)])
def test_power_is_that_of_the_non_central_t(observers: int, targets: int) -> None:
    effect = Effect(0.56, 0.4, 0.9)
    v = np.array(effect.variances) / [observers, targets, observers * targets]
    first, second = v[0] + v[2], v[1] + v[2]
    df = v.sum() ** 2 / (
        first**2 / (observers - 1) + second**2 / (targets - 1) + v[2] ** 2 / ((observers - 1) * (targets - 1))
    )
    critical, shift = stats.t.ppf(0.975, df), 0.06 / np.sqrt(v.sum())
    expected = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
    assert power(effect, observers, targets) == pytest.approx(expected, abs=1e-4)


def test_targets_help_where_observers_do_not() -> None:
    assert power(EFFECT, 1000, 95) < power(EFFECT, 46, 300)
    few, many = smallest(EFFECT, 46, 95), smallest(EFFECT, 46, 300)
    assert few is not None
    assert many is not None
    assert (few, many) == pytest.approx((0.56, 0.535), abs=0.003)
    assert power(Effect(many, 0.15, 0.9), 46, 300) == pytest.approx(WANTED, abs=1e-3)
    assert smallest(Effect(0.54, 3.0, 3.0), 2, 2) is None
