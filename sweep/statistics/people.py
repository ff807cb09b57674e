"""Tests of the preference of people between two options: over observers, over targets, and over both at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sweep.errors import InputError
from sweep.statistics.pairs import holm

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
"""Coverage of all intervals."""


@dataclass(frozen=True)
class Preference:
    """A preference tested against 0.5; every field has the shape of the experiments, NaN where there is no test."""

    preference: Floats
    """For option a: from 0 to 1."""
    std_error: Floats
    df: Floats
    t: Floats
    p: Floats
    """Two-sided."""
    low: Floats
    """Lower limit of the 95 percent interval."""
    high: Floats


def over_both(answers: ArrayLike) -> Preference:
    """The crossed test: observers and targets are both samples.

    The variance of the answers is taken apart into observers, targets and the rest by Henderson's method I (1953), with
    no component below 0; the degrees of freedom are Satterthwaite's (1946). Answers may be missing in any pattern.

    Args:
        answers: 1 where an observer chose option a, 0 where option b, NaN where there is no answer; shape (...,
            observers, targets).

    Returns:
        One test per experiment, shape (...).

    Raises:
        InputError: for another shape.
    """
    chosen, answered = _counts(answers)
    n_i, k_i = answered.sum(-1), chosen.sum(-1)
    n_j, k_j = answered.sum(-2), chosen.sum(-2)
    n, k = n_i.sum(-1), k_i.sum(-1)
    r, c = np.count_nonzero(n_i, axis=-1), np.count_nonzero(n_j, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        in_observers = _within(k_i, n_i) / (n - r)
        in_targets = _within(k_j, n_j) / (n - c)
        observer_weight = n - (n_i**2).sum(-1) / n
        target_weight = n - (n_j**2).sum(-1) / n
        residual = (in_targets * observer_weight + in_observers * target_weight - k * (n - k) / n) / (
            observer_weight + target_weight - n + 1
        )
        observers = np.maximum(in_targets - residual, 0) * (n_i**2).sum(-1) / n**2 + residual / n
        targets = np.maximum(in_observers - residual, 0) * (n_j**2).sum(-1) / n**2 + residual / n
        rest = residual / n
        variance = observers + targets - rest
        df = variance**2 / (observers**2 / (r - 1) + targets**2 / (c - 1) + rest**2 / (n - r - c + 1))
        return _tested(k / n, variance, df)


def over_observers(answers: ArrayLike) -> Preference:
    """The paper's test: Student's t of the observers' own shares. It holds for these very targets only.

    `answers` and what is returned are those of `over_both`.
    """
    chosen, answered = _counts(answers)
    return _of_shares(chosen.sum(-1), answered.sum(-1))


def over_targets(answers: ArrayLike) -> Preference:
    """Student's t of the targets' shares. It holds for these very observers only.

    `answers` and what is returned are those of `over_both`.
    """
    chosen, answered = _counts(answers)
    return _of_shares(chosen.sum(-2), answered.sum(-2))


@dataclass(frozen=True)
class TargetPreferences:
    """The preference for option a of each target; every field has the shape (targets,)."""

    preference: Floats
    low: Floats
    """Lower limit of Wilson's interval (1927)."""
    high: Floats
    p: Floats
    """Exact binomial test against 0.5, two-sided."""
    p_holm: Floats
    """The same, corrected for the number of targets by Holm's method."""


def each_target(answers: ArrayLike) -> TargetPreferences:
    """The preference of each target; `answers` of shape (observers, targets) as in `over_both`."""
    chosen, answered = _counts(answers)
    if answered.ndim != 2:
        raise InputError(
            f"preferences by target need answers of shape (observers, targets), not {answered.shape}"
        )
    rows = [
        (found := stats.binomtest(int(k), int(n), 0.5), found.proportion_ci(CONFIDENCE, "wilson"))
        for k, n in zip(chosen.sum(0), answered.sum(0), strict=True)
    ]
    p = np.array([found.pvalue for found, _ in rows])
    return TargetPreferences(
        chosen.sum(0) / answered.sum(0),
        np.array([interval.low for _, interval in rows]),
        np.array([interval.high for _, interval in rows]),
        p,
        holm(p),
    )


@dataclass(frozen=True)
class Agreement:
    """How far observers agree with each other."""

    agreement: float
    """Share of pairs of observers who choose the same option, mean over targets."""
    low: float
    """Lower limit of the 95 percent interval over targets."""
    high: float
    expected: float
    """The same if every answer were drawn by the overall preference."""
    kappa: float
    """Fleiss' kappa (1971)."""


def agreement(answers: ArrayLike) -> Agreement:
    """How far observers agree; `answers` of shape (observers, targets) as in `over_both`."""
    chosen, answered = _counts(answers)
    k, n = chosen.sum(0), answered.sum(0)
    several = n > 1
    k, n = k[several], n[several]
    alike = (k * (k - 1) + (n - k) * (n - k - 1)) / (n * (n - 1))
    mean = float(alike.mean())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(n) - 1) * stats.sem(alike)) if len(n) > 1 else np.nan
    overall = chosen.sum() / answered.sum()
    expected = float(overall**2 + (1 - overall) ** 2)
    kappa = (mean - expected) / (1 - expected) if expected < 1 else np.nan
    return Agreement(mean, mean - half, mean + half, expected, float(kappa))


def _counts(answers: ArrayLike) -> tuple[Floats, Floats]:
    """Whether option a was chosen, and whether there is an answer, as 0 and 1 of shape (..., observers, targets)."""
    values = np.asarray(answers, dtype=np.float64)
    if values.ndim < 2:
        raise InputError(f"answers need the shape (..., observers, targets), not {values.shape}")
    return np.nan_to_num(values, nan=0.0), (~np.isnan(values)).astype(np.float64)


def _within(k: Floats, n: Floats) -> Floats:
    """Sum of squares within groups that have `k` of `n` answers for option a, shape (..., groups)."""
    summed: Floats = (k * (n - k) / np.where(n > 0, n, 1)).sum(-1)
    return summed


def _of_shares(k: Floats, n: Floats) -> Preference:
    """Student's t of the shares of groups, shape (..., groups); a group without answers counts for nothing."""
    there = n > 0
    groups = there.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(there, k / n, 0.0)
        mean = shares.sum(-1) / groups
        squares = (np.where(there, shares - mean[..., None], 0.0) ** 2).sum(-1)
        return _tested(mean, squares / (groups - 1) / groups, groups - 1.0)


def _tested(preference: Floats, variance: Floats, df: Floats) -> Preference:
    with np.errstate(divide="ignore", invalid="ignore"):
        # Rounding leaves a trace of variance where there is none.
        error = np.sqrt(np.where((variance > 1e-18) & (df > 0), variance, np.nan))
        t = (preference - 0.5) / error
        known = np.where(np.isnan(error), np.nan, df)
        # As in SQL, no interval is told with fewer than one degree of freedom.
        half = stats.t.ppf((1 + CONFIDENCE) / 2, np.where(known >= 1, known, np.nan)) * error
        return Preference(
            preference,
            error,
            known,
            t,
            2 * stats.t.sf(np.abs(t), known),
            preference - half,
            preference + half,
        )
