"""What the tests assume, and whether the data contradict it."""

import pandas as pd
from scipy import stats

from sweep.errors import InputError


def normality(observations: pd.DataFrame, by: str = "relation") -> pd.DataFrame:
    """Shapiro-Wilk test of the observations' deviations from their group's mean.

    Groups of five are too small to be tested one by one; their residuals together are not, and their normality is
    what the F test assumes.

    Args:
        observations: columns `auc` and `by`.
        by: the column of the groups.

    Returns:
        One row: n, w, p; a small p speaks against normality.

    Raises:
        InputError: for fewer than three observations or residuals that are all zero.
    """
    residuals = observations["auc"] - observations.groupby(by)["auc"].transform("mean")
    if len(residuals) < 3 or residuals.abs().max() <= 1e-10 * observations["auc"].abs().max():
        raise InputError("a test of normality needs three observations that differ within their groups")
    result = stats.shapiro(residuals.to_numpy())
    return pd.DataFrame([{"n": len(residuals), "w": float(result.statistic), "p": float(result.pvalue)}])


def equal_variances(observations: pd.DataFrame, by: str = "relation") -> pd.DataFrame:
    """Brown and Forsythe's test (Levene's about the median) of equal variances between groups.

    Args:
        observations: columns `auc` and `by`.
        by: the column of the groups; a group of one is left out.

    Returns:
        One row: n_groups, f, df, df_error, p; a small p speaks against equal variances.

    Raises:
        InputError: for fewer than two groups of two or more, or groups that all lack variance.
    """
    groups = [group.to_numpy() for _, group in observations.groupby(by)["auc"] if len(group) > 1]
    if len(groups) < 2 or max(group.max() - group.min() for group in groups) <= 1e-10 * max(
        abs(group).max() for group in groups
    ):
        raise InputError("a test of variances needs two groups of two observations that differ")
    result = stats.levene(*groups, center="median")
    total = sum(len(group) for group in groups)
    return pd.DataFrame(
        [
            {
                "n_groups": len(groups),
                "f": float(result.statistic),
                "df": len(groups) - 1,
                "df_error": total - len(groups),
                "p": float(result.pvalue),
            }
        ]
    )
