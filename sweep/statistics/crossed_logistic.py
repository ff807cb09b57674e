"""A logistic model of answers with random effects of observers and targets, fitted by Laplace's approximation.

It is secondary to the crossed test of `sweep.statistics.people`, which needs no model of the answers. statsmodels has no
likelihood fit of crossed random effects.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from sweep.errors import InputError

Floats = NDArray[np.float64]

_SMALLEST, _LARGEST = 1e-3, 10.0
"""Limits of the standard deviations, on the logit scale; at the smallest an effect is none."""


@dataclass(frozen=True)
class CrossedLogistic:
    """The fitted model: logit P(option a) = intercept + observer + target."""

    intercept: float
    """Log odds of option a for an average observer and target."""
    std_error: float
    """Of the intercept, from the curvature of the profiled likelihood."""
    sd_observers: float
    """Standard deviation of the observers' effects, on the logit scale."""
    sd_targets: float
    p_wald: float
    """Of intercept = 0, two-sided."""
    p_likelihood_ratio: float
    log_likelihood: float

    @property
    def preference(self) -> float:
        """Probability of option a for an average observer and target."""
        return float(1 / (1 + np.exp(-self.intercept)))


def crossed_logistic(answers: ArrayLike) -> CrossedLogistic:
    """Fit the model by maximum likelihood, the random effects integrated out by Laplace's approximation.

    Args:
        answers: 1 for option a, 0 for option b, NaN where there is no answer; shape (observers, targets).

    Returns:
        The fit. Its tests take the normal for the t distribution and reject too often with few observers or targets.

    Raises:
        InputError: for another shape, fewer than two observers or targets, or answers that are all the same.
    """
    values = np.asarray(answers, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2:
        raise InputError(
            f"the logistic model needs answers of two observers to two targets, not {values.shape}"
        )
    known = ~np.isnan(values)
    chosen = np.where(known, values, 0.0)
    if chosen.sum() in (0, known.sum()):
        raise InputError("the logistic model needs answers that differ")
    problem = _Problem(chosen, known.astype(np.float64))

    share = chosen.sum() / known.sum()
    start = np.array([np.log(share / (1 - share)), np.log(0.3), np.log(0.3)])
    full = problem.fit(start)
    null = problem.fit(start[1:], intercept=0.0)
    # The curvature of the likelihood over all three parameters, by differences.
    error = np.sqrt(np.linalg.pinv(_hessian(problem.deviance, full.x) / 2)[0, 0])
    ratio = max(float(null.fun - full.fun), 0.0)
    return CrossedLogistic(
        intercept=float(full.x[0]),
        std_error=float(error),
        sd_observers=float(np.exp(full.x[1])),
        sd_targets=float(np.exp(full.x[2])),
        p_wald=float(2 * stats.norm.sf(abs(full.x[0]) / error)),
        p_likelihood_ratio=float(stats.chi2.sf(ratio, 1)),
        log_likelihood=float(-full.fun / 2),
    )


class _Problem:
    """The deviance of the model, and the mode of the random effects that it is expanded about."""

    def __init__(self, chosen: Floats, known: Floats) -> None:
        self._chosen, self._known = chosen, known
        self._observers, self._targets = chosen.shape
        self._mode = np.zeros(self._observers + self._targets)

    def fit(self, start: Floats, intercept: float | None = None) -> optimize.OptimizeResult:
        """The parameters with the smallest deviance; the intercept is one of them unless it is given."""
        limits = (np.log(_SMALLEST), np.log(_LARGEST))

        def deviance(parameters: Floats) -> float:
            return self.deviance(parameters if intercept is None else np.array([intercept, *parameters]))

        bounds = [(None, None)] * (intercept is None) + [limits, limits]
        return optimize.minimize(deviance, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-11})

    def deviance(self, parameters: Floats) -> float:
        """Minus twice the log likelihood at (intercept, log SD of observers, log SD of targets)."""
        intercept, *logs = parameters
        precision = np.repeat(np.exp(-2 * np.asarray(logs)), [self._observers, self._targets])
        mode, half_log_determinant = self._find_mode(float(intercept), precision)
        return 2 * (
            self._loss(mode, float(intercept), precision)
            + half_log_determinant
            - 0.5 * float(np.log(precision).sum())
        )

    def _find_mode(self, intercept: float, precision: Floats) -> tuple[Floats, float]:
        """Newton's method from the last mode; also half the log determinant of the curvature there."""
        mode = self._mode
        loss = self._loss(mode, intercept, precision)
        for _ in range(100):
            chance = self._chance(mode, intercept)
            slope = self._chosen - self._known * chance
            gradient = np.concatenate([slope.sum(1), slope.sum(0)]) - precision * mode
            weight = self._known * chance * (1 - chance)
            step, half_log_determinant = self._newton(weight, gradient, precision)
            size = 1.0
            while (
                moved := self._loss(mode + size * step, intercept, precision)
            ) > loss + 1e-12 and size > 1e-6:
                size /= 2
            mode, loss = mode + size * step, moved
            if np.abs(size * step).max() < 1e-9:
                break
        self._mode = mode
        return mode, half_log_determinant

    def _newton(self, weight: Floats, gradient: Floats, precision: Floats) -> tuple[Floats, float]:
        """The step that solves curvature × step = gradient, and half the log determinant of the curvature.

        The curvature has one block per kind of effect. Both blocks on its diagonal are diagonal themselves, so the
        targets are eliminated and a system of the observers' size is left.
        """
        rows = weight.sum(1) + precision[: self._observers]
        columns = weight.sum(0) + precision[self._observers :]
        scaled = weight / columns
        # No matrix product: the threads of the linear algebra cost more than so small a one.
        factor = np.linalg.cholesky(np.diag(rows) - np.einsum("ij,kj->ik", scaled, weight))
        first, second = gradient[: self._observers], gradient[self._observers :]
        observers = np.linalg.solve(factor.T, np.linalg.solve(factor, first - (scaled * second).sum(1)))
        targets = second / columns - (scaled * observers[:, None]).sum(0)
        half_log_determinant = float(np.log(np.diag(factor)).sum() + 0.5 * np.log(columns).sum())
        return np.concatenate([observers, targets]), half_log_determinant

    def _loss(self, mode: Floats, intercept: float, precision: Floats) -> float:
        """Minus the log of the joint density of answers and effects, without its constant."""
        logit = self._logit(mode, intercept)
        likelihood = self._chosen * logit - self._known * np.logaddexp(0, logit)
        return float(0.5 * (precision * mode**2).sum() - likelihood.sum())

    def _logit(self, mode: Floats, intercept: float) -> Floats:
        logit: Floats = intercept + mode[: self._observers, None] + mode[None, self._observers :]
        return logit

    def _chance(self, mode: Floats, intercept: float) -> Floats:
        chance: Floats = special.expit(self._logit(mode, intercept))
        return chance


def _hessian(function: Callable[[Floats], float], at: Floats, step: float = 1e-3) -> Floats:
    """Second derivatives by central differences."""
    size = len(at)
    steps = np.eye(size) * step
    found = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            found[i, j] = found[j, i] = (
                function(at + steps[i] + steps[j])
                - function(at + steps[i] - steps[j])
                - function(at - steps[i] + steps[j])
                + function(at - steps[i] - steps[j])
            ) / (4 * step**2)
    return found
