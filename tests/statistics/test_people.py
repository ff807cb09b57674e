"""The tests of people's preference: the benchmark of their errors in small, and the logistic model against the truth."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate

from sweep.errors import InputError
from sweep.statistics import crossed_logistic, each_target, over_both

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "human_error.py"))
CELLS, Rate, measure, simulate = (SCRIPT[name] for name in ("CELLS", "Rate", "measure", "simulate"))


def test_the_papers_test_rejects_too_often_where_targets_differ_and_the_crossed_one_does_not() -> None:
    (cell,) = (cell for cell in CELLS if cell.name == "12 × 20, targets differ")
    rates = {rate.test: rate for rate in measure(cell, 600, 0)}
    assert rates == {rate.test: rate for rate in measure(cell, 600, 0)}
    assert rates["observers"].rejected > 0.15
    assert rates["observers"].covered < 0.85
    assert 0.02 < rates["crossed"].rejected < 0.075
    assert rates["crossed"].holds
    assert 0.92 < rates["crossed"].covered < 0.98
    assert not Rate("c", "crossed", 4000, 0.08, 0.95).holds
    assert not Rate("c", "crossed", 4000, 0.015, 0.95).holds


def test_the_logistic_model_and_the_crossed_test_judge_the_same_answers() -> None:
    (cell,) = (cell for cell in CELLS if cell.name == "12 × 20, targets differ")
    found = SCRIPT["measure_logistic"](cell, 12, 0)
    assert found == SCRIPT["measure_logistic"](cell, 12, 0)
    assert set(found) == {"likelihood ratio", "Wald", "crossed"}
    assert all(0 <= share < 0.5 for share in found.values())


def test_answers_are_missing_as_a_cell_says() -> None:
    rng = np.random.default_rng(0)
    few, stopped = (simulate(CELLS[i], 0.5, 20, rng) for i in (-2, -1))
    assert np.isnan(few).mean() == pytest.approx(0.3, abs=0.02)
    complete = (~np.isnan(stopped)).sum(axis=-1) == CELLS[-1].targets
    assert complete.mean() == pytest.approx(2 / 3, abs=0.06)


def test_the_logistic_model_finds_what_was_simulated() -> None:
    rng = np.random.default_rng(3)
    logit = 0.4 + 0.5 * rng.normal(size=(40, 1)) + 0.9 * rng.normal(size=60)
    answers = (rng.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    answers[rng.random(answers.shape) < 0.2] = np.nan
    fit = crossed_logistic(answers)
    assert fit.sd_observers == pytest.approx(0.5, abs=0.15)
    assert fit.sd_targets == pytest.approx(0.9, abs=0.2)
    assert abs(fit.intercept - logit.mean()) < 2 * fit.std_error
    assert 0.5 < fit.preference < 0.7
    # Close to what needs no model.
    assert fit.p_likelihood_ratio == pytest.approx(float(over_both(answers).p), abs=0.03)


def test_laplace_is_near_the_integral_where_one_effect_is_none() -> None:
    # One observer's answers to one kind of target: the likelihood is a product of integrals in one dimension.
    rng = np.random.default_rng(1)
    answers = (rng.random((30, 12)) < 1 / (1 + np.exp(-rng.normal(size=(30, 1))))).astype(np.float64)
    fit = crossed_logistic(answers)
    assert fit.sd_targets < 0.2

    def likelihood(effect: float, chosen: float) -> float:
        logit = fit.intercept + fit.sd_observers * effect
        chance = 1 / (1 + np.exp(-logit))
        density = np.exp(-(effect**2) / 2) / np.sqrt(2 * np.pi)
        return float(density * chance**chosen * (1 - chance) ** (12 - chosen))

    exact = sum(
        np.log(integrate.quad(likelihood, -8, 8, args=(chosen,))[0]) for chosen in answers.sum(axis=1)
    )
    assert fit.log_likelihood == pytest.approx(exact, abs=0.6)


@pytest.mark.parametrize("answers", [np.ones((3, 4)), np.zeros((1, 4)), np.zeros(3)])
def test_what_cannot_be_fitted_is_refused(answers: np.ndarray) -> None:
    with pytest.raises(InputError, match="logistic model needs"):
        crossed_logistic(answers)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="answers need the shape"):
        over_both(np.zeros(3))
    with pytest.raises(InputError, match="preferences by target need"):
        each_target(np.zeros((2, 3, 4)))
