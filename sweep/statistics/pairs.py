"""Comparisons of two mask sources at a time, corrected for their number."""

from itertools import combinations

import numpy as np
import pandas as pd

from sweep.errors import InputError


def pairwise_t(observations: pd.DataFrame, test: str = "paired") -> pd.DataFrame:
    """Compare all pairs of mask sources by t tests, with Holm's correction.

    Args:
        observations: one row per destination model and bin of one condition, columns `destination_id`,
            `relation`, `auc`.
        test: 'paired' (within models), 'unpaired' (Student, pooled variance) or 'welch'.

    Returns:
        One row per pair: source_a, source_b (in alphabetical order), n_a, n_b, difference, t, df, p, p_holm. A pair
        without a test (too few models, no variance) has NaN in t, df, p and p_holm, and counts for no correction.

    Raises:
        InputError: for an unknown `test`, or fewer than two mask sources.
    """
    if test not in ("paired", "unpaired", "welch"):
        raise InputError(f"test is {test!r} but must be paired, unpaired or welch")
    wide = observations.pivot(index="destination_id", columns="relation", values="auc")
    if wide.shape[1] < 2:
        raise InputError("pairwise tests need two mask sources")
    rows = []
    for source_a, source_b in combinations(sorted(wide.columns), 2):
        both = wide[[source_a, source_b]]
        if test == "paired":
            both = both.dropna()
        a = both[source_a].dropna().to_numpy()
        b = both[source_b].dropna().to_numpy()
        t, p, df = _t(a, b, test)
        rows.append((source_a, source_b, len(a), len(b), _mean(a) - _mean(b), t, df, p))
    table = pd.DataFrame(rows, columns=["source_a", "source_b", "n_a", "n_b", "difference", "t", "df", "p"])
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down correction of p-values, shape (tests,); NaN stays NaN and counts for nothing."""
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    corrected = np.full(len(p), np.nan)
    stepped = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def tukey(observations: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Tukey's honestly significant differences between mask sources, Tukey-Kramer where sizes differ.

    Args:
        observations: one row per destination model and bin of one condition, columns `relation`, `auc`.
        confidence: coverage of the simultaneous intervals.

    Returns:
        One row per pair: source_a, source_b, difference (mean of a - mean of b), p, low, high.

    Raises:
        InputError: for fewer than two mask sources, or as many sources as observations.
    """
    levels = observations["relation"].nunique()
    if levels < 2 or len(observations) <= levels:
        raise InputError("Tukey's test needs two mask sources and more observations than sources")
    from statsmodels.stats.multicomp import pairwise_tukeyhsd

    result = pairwise_tukeyhsd(observations["auc"], observations["relation"], alpha=1 - confidence)
    first, second = np.triu_indices(levels, 1)
    names = np.asarray(result.groupsunique)
    # statsmodels subtracts the first group from the second; here and in the SQL it is the other way round.
    return pd.DataFrame(
        {
            "source_a": names[first],
            "source_b": names[second],
            "difference": -result.meandiffs,
            "p": result.pvalues,
            "low": -result.confint[:, 1],
            "high": -result.confint[:, 0],
        }
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _t(a: np.ndarray, b: np.ndarray, test: str) -> tuple[float, float, float]:
    """t, p and df, or three NaN where the test is impossible."""
    from statsmodels.stats.weightstats import DescrStatsW, ttest_ind

    nothing = (float("nan"),) * 3
    if test == "paired":
        if len(a) < 2 or np.ptp(a - b) <= 1e-10 * np.abs(a).max():
            return nothing
        t, p, df = DescrStatsW(a - b).ttest_mean(0.0)
    else:
        enough = len(a) > 1 and len(b) > 1 if test == "welch" else len(a) + len(b) > 2
        if not enough or max(np.ptp(a), np.ptp(b)) <= 1e-10 * max(np.abs(a).max(), np.abs(b).max()):
            return nothing
        t, p, df = ttest_ind(a, b, usevar="unequal" if test == "welch" else "pooled")
    return float(t), float(p), float(df)
