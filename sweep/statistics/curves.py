"""Accuracy against the share of pixels removed: its area, and how sure one can be of both."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sweep.errors import InputError


@dataclass(frozen=True)
class CurveBand:
    """A mean curve and its area, with percentile bootstrap intervals."""

    mean: NDArray[np.float64]
    """Mean accuracy, one value per level."""
    low: NDArray[np.float64]
    """Lower limits, one value per level."""
    high: NDArray[np.float64]
    """Upper limits, one value per level."""
    auc: float
    """Area under the mean curve, divided by its range."""
    auc_low: float
    """Lower limit of the area."""
    auc_high: float
    """Upper limit of the area."""


def area_under_curve(percents: ArrayLike, accuracy: ArrayLike, axis: str = "log") -> NDArray[np.float64]:
    """Area under accuracy by the trapezoid rule, divided by the range of the axis; 1.0 = never hurt.

    Args:
        percents: the masking levels, percent, any order; shape (levels,).
        accuracy: fractions correct, shape (..., levels).
        axis: 'log' for log10(percent) over levels strictly between 0 and 100, 'linear' for percent over all levels.

    Returns:
        Areas of shape (...).

    Raises:
        InputError: for another `axis`, shapes that do not fit, or fewer than two usable levels.
    """
    if axis not in ("log", "linear"):
        raise InputError(f"axis is {axis!r} but must be log or linear")
    levels = np.asarray(percents, dtype=np.float64)
    values = np.asarray(accuracy, dtype=np.float64)
    if levels.ndim != 1 or values.shape[-1:] != levels.shape:
        raise InputError(f"accuracy of shape {values.shape} does not fit {levels.shape} masking levels")
    if axis == "log":
        inside = (levels > 0) & (levels < 100)
        levels, values = np.log10(levels[inside]), values[..., inside]
    order = np.argsort(levels)
    levels, values = levels[order], values[..., order]
    if len(levels) < 2 or levels[0] == levels[-1]:
        raise InputError(f"an area on the {axis} axis needs two different masking levels")
    area = np.trapezoid(values, levels, axis=-1)
    return np.asarray(area / (levels[-1] - levels[0]), dtype=np.float64)


def bootstrap_band(
    percents: ArrayLike,
    accuracy: ArrayLike,
    *,
    axis: str = "log",
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> CurveBand:
    """Percentile bootstrap (Efron 1979) of a mean curve and its area, resampling whole curves.

    A curve is the unit, so the band holds for new units of the same kind: give one curve per destination model to
    generalise over initialisations, one per image to generalise over images. With five units the band is somewhat
    narrow, as percentile intervals are for small samples.

    Args:
        percents: the masking levels, shape (levels,).
        accuracy: one curve per unit, shape (units, levels).
        axis: axis of the area, see `area_under_curve`.
        draws: resamples.
        confidence: coverage of the pointwise intervals.
        seed: of the resampling; the same seed gives the same band.

    Returns:
        The mean curve, its area, and the limits of both.

    Raises:
        InputError: for an array that is not units x levels, or numbers out of range.
    """
    curves = np.asarray(accuracy, dtype=np.float64)
    if curves.ndim != 2 or not len(curves):
        raise InputError(f"a bootstrap needs curves of shape (units, levels), not {curves.shape}")
    if draws < 1 or not 0 < confidence < 1:
        raise InputError("a bootstrap needs draws of at least 1 and a confidence between 0 and 1")
    rng = np.random.default_rng(seed)
    # A resample is a vector of how often each unit is drawn; the means of all resamples are one matrix product.
    weights = rng.multinomial(len(curves), np.full(len(curves), 1 / len(curves)), size=draws) / len(curves)
    resampled = weights @ curves
    limits = ((1 - confidence) / 2, (1 + confidence) / 2)
    low, high = np.quantile(resampled, limits, axis=0)
    mean = curves.mean(axis=0)
    auc_low, auc_high = np.quantile(area_under_curve(percents, resampled, axis), limits)
    return CurveBand(
        mean, low, high, float(area_under_curve(percents, mean, axis)), float(auc_low), float(auc_high)
    )
