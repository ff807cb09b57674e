"""Analyses of variance: the between-subjects forms the paper prints, and the repeated-measures forms."""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import linalg, stats

from sweep.errors import InputError

_COLUMNS = (
    "effect",
    "df",
    "df_error",
    "sum_sq",
    "sum_sq_error",
    "f",
    "p",
    "partial_eta_sq",
    "generalised_eta_sq",
)

_NO_VARIANCE = 1e-20
"""A sum of squares below this share of the raw one is rounding (1e-10 of the values themselves)."""


def two_way(observations: pd.DataFrame) -> pd.DataFrame:
    """Pretraining x mask source, every observation on its own: figure 5 as the paper prints it.

    Args:
        observations: one row per destination model and bin, columns `pretraining`, `relation`, `auc`. Every
            combination of the first two must occur; the numbers of rows may differ.

    Returns:
        One row per effect (`pretraining`, `mask_source`, `pretraining:mask_source`) with df, df_error, sum_sq,
        sum_sq_error, f, p, partial_eta_sq and generalised_eta_sq. Sums of squares are of type III.

    Raises:
        InputError: where a cell is empty, a factor has one level, or no degrees of freedom are left for error.
    """
    _need(observations, "pretraining", "relation", "auc")
    cells = observations.groupby(["pretraining", "relation"]).size().unstack(fill_value=0)
    if min(cells.shape) < 2:
        raise InputError("a two-way ANOVA needs two levels of pretraining and two mask sources")
    if (cells == 0).to_numpy().any():
        raise InputError("a combination of pretraining and mask source has no observation")
    _need_error(len(observations) - cells.size)
    table = _fitted("auc ~ C(pretraining, Sum) * C(relation, Sum)", observations, 3)
    error = table["Residual"]
    return _table(
        (effect, table[term], error, error.sum_sq)
        for effect, term in (
            ("pretraining", "C(pretraining, Sum)"),
            ("mask_source", "C(relation, Sum)"),
            ("pretraining:mask_source", "C(pretraining, Sum):C(relation, Sum)"),
        )
    )


def mixed(observations: pd.DataFrame) -> pd.DataFrame:
    """Pretraining between models, two mask sources within them: the form that figure 5's design asks for.

    With two sources the model splits exactly into two ordinary ones: of the models' means (pretraining) and of
    their differences (mask source as the intercept, the interaction as the effect of pretraining).

    Args:
        observations: one row per destination model and bin, columns `destination_id`, `pretraining`, `relation`,
            `auc`; two relations in all. Models that lack one of them are left out.

    Returns:
        As `two_way`; sum_sq of all three effects are on the scale of single observations.

    Raises:
        InputError: for a number of mask sources other than two, one pretraining, or too few models.
    """
    wide = _complete(observations, ["pretraining", "destination_id"])
    if wide.shape[1] != 2:
        raise InputError(f"the mixed ANOVA compares two mask sources, not {wide.shape[1]}")
    models = pd.DataFrame(
        {
            # Scaled so that sums of squares come out as those of the single observations.
            "centre": (wide.iloc[:, 0] + wide.iloc[:, 1]) / np.sqrt(2),
            "contrast": (wide.iloc[:, 0] - wide.iloc[:, 1]) / np.sqrt(2),
            "pretraining": wide.index.get_level_values("pretraining"),
        }
    ).reset_index(drop=True)
    groups = models["pretraining"].nunique()
    if groups < 2:
        raise InputError("the mixed ANOVA needs two levels of pretraining")
    _need_error(len(models) - groups)
    centre = _fitted("centre ~ C(pretraining, Sum)", models, 3)
    contrast = _fitted("contrast ~ C(pretraining, Sum)", models, 3)
    everything = centre["Residual"].sum_sq + contrast["Residual"].sum_sq
    return _table(
        (effect, table[term], table["Residual"], everything)
        for effect, table, term in (
            ("pretraining", centre, "C(pretraining, Sum)"),
            ("mask_source", contrast, "Intercept"),
            ("pretraining:mask_source", contrast, "C(pretraining, Sum)"),
        )
    )


def mixed_linear_model(observations: pd.DataFrame) -> pd.DataFrame:
    """Pretraining x mask source with a random intercept per model, fitted by restricted maximum likelihood.

    It uses models that lack a mask source too. Tests are Wald tests against the normal distribution, and so are
    too liberal for few models: read them beside `mixed`, not instead of it.

    Args:
        observations: one row per destination model and bin, columns as for `mixed`; any number of relations.

    Returns:
        One row per effect: effect, df, chi2, p, variance_models, variance_error, and converged: false where the
        optimiser stopped early or the variance between models is estimated as zero.

    Raises:
        InputError: when a factor has one level or a cell is empty.
    """
    from statsmodels.formula.api import mixedlm
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, SingularMatrixWarning

    # What statsmodels says of a fit at the edge of its range; told in the column `converged`.
    of_fits = (ConvergenceWarning, SingularMatrixWarning)
    _need(observations, "destination_id", "pretraining", "relation", "auc")
    cells = observations.groupby(["pretraining", "relation"]).size().unstack(fill_value=0)
    if min(cells.shape) < 2 or (cells == 0).to_numpy().any():
        raise InputError("the mixed linear model needs every combination of two pretrainings and two sources")
    with warnings.catch_warnings(record=True) as caught:
        for kind in of_fits:
            warnings.simplefilter("always", kind)
        # Powell's method needs no gradient; those that do break down where models do not differ.
        fit = mixedlm(
            "auc ~ C(pretraining, Sum) * C(relation, Sum)",
            observations,
            groups=observations["destination_id"],
        ).fit(reml=True, method="powell")
        wald = fit.wald_test_terms(scalar=True).table
    stopped = any(issubclass(warning.category, of_fits) for warning in caught)
    rows = []
    for effect, term in (
        ("pretraining", "C(pretraining, Sum)"),
        ("mask_source", "C(relation, Sum)"),
        ("pretraining:mask_source", "C(pretraining, Sum):C(relation, Sum)"),
    ):
        rows.append(
            {
                "effect": effect,
                "df": int(wald.loc[term, "df_constraint"]),
                "chi2": float(wald.loc[term, "statistic"]),
                "p": float(wald.loc[term, "pvalue"]),
                "variance_models": float(fit.cov_re.iloc[0, 0]),
                "variance_error": float(fit.scale),
                "converged": bool(fit.converged) and not stopped,
            }
        )
    return pd.DataFrame(rows)


def one_way(observations: pd.DataFrame) -> pd.DataFrame:
    """Mask sources as independent groups: figure 6 as the paper prints it.

    Args:
        observations: one row per destination model and bin of one condition, columns `relation`, `auc`.

    Returns:
        As `two_way`, with the one row `mask_source`.

    Raises:
        InputError: for fewer than two mask sources, or no degrees of freedom left for error.
    """
    _need(observations, "relation", "auc")
    levels = observations["relation"].nunique()
    if levels < 2:
        raise InputError("a one-way ANOVA needs two mask sources")
    _need_error(len(observations) - levels)
    table = _fitted("auc ~ C(relation)", observations, 2)
    error = table["Residual"]
    return _table([("mask_source", table["C(relation)"], error, error.sum_sq)])


def repeated_measures(observations: pd.DataFrame) -> pd.DataFrame:
    """Mask sources within models: the form that figure 6's design asks for, with Greenhouse-Geisser correction.

    Args:
        observations: one row per destination model and bin of one condition, columns `destination_id`,
            `relation`, `auc`. Models that lack a mask source are left out.

    Returns:
        One row as of `two_way`, and gg_epsilon, gg_df, gg_df_error, gg_p.

    Raises:
        InputError: for fewer than two mask sources, fewer than two complete models, or no error variance.
    """
    wide = _complete(observations, ["destination_id"])
    n, k = wide.shape
    if k < 2 or n < 2:
        raise InputError("a repeated-measures ANOVA needs two mask sources and two models that have both")
    values = wide.to_numpy(dtype=np.float64)
    within_cells = values - values.mean(axis=0)
    error = float(((within_cells - within_cells.mean(axis=1, keepdims=True)) ** 2).sum())
    if error <= _NO_VARIANCE * float((values**2).sum()):
        raise InputError("the models do not vary beyond their mean levels: there is no error variance")
    long = wide.reset_index().melt(id_vars="destination_id", var_name="relation", value_name="auc")
    from statsmodels.stats.anova import AnovaRM

    tested = AnovaRM(long, "auc", "destination_id", within=["relation"]).fit().anova_table.iloc[0]
    df, df_error = float(tested["Num DF"]), float(tested["Den DF"])
    effect = n * float(((values.mean(axis=0) - values.mean()) ** 2).sum())
    epsilon = greenhouse_geisser(values)
    line = _Line(df, effect, float(tested["F Value"]), float(tested["Pr > F"]))
    table = _table([("mask_source", line, _Line(df_error, error), float((within_cells**2).sum()))])
    return table.assign(
        gg_epsilon=epsilon,
        gg_df=epsilon * df,
        gg_df_error=epsilon * df_error,
        gg_p=stats.f.sf(line.f, epsilon * df, epsilon * df_error),
    )


def greenhouse_geisser(values: np.ndarray) -> float:
    """Epsilon of Greenhouse and Geisser (1959), from the eigenvalues of the contrasts' covariance matrix.

    Args:
        values: models x measurements, at least 2 x 2.

    Returns:
        A number between 1 / (k - 1), the strongest violation of sphericity, and 1, none.
    """
    k = values.shape[1]
    contrasts = linalg.helmert(k)
    roots = np.linalg.eigvalsh(np.atleast_2d(np.cov(values @ contrasts.T, rowvar=False)))
    return float(roots.sum() ** 2 / ((k - 1) * (roots**2).sum()))


class _Line(NamedTuple):
    """One line of a table of sums of squares; the error's line has neither f nor p."""

    df: float
    sum_sq: float
    f: float = float("nan")
    p: float = float("nan")


def _fitted(formula: str, data: pd.DataFrame, typ: int) -> dict[str, _Line]:
    """The ANOVA of a linear model by term; f and p are NaN where the residuals are nothing but rounding."""
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    with np.errstate(divide="ignore", invalid="ignore"):
        fit = ols(formula, data).fit()
        table = anova_lm(fit, typ=typ)
    if fit.ssr <= _NO_VARIANCE * float((fit.model.endog**2).sum()):
        table[["F", "PR(>F)"]] = np.nan
    rows = table[["df", "sum_sq", "F", "PR(>F)"]].to_numpy(dtype=np.float64)
    return {str(term): _Line(*map(float, row)) for term, row in zip(table.index, rows, strict=True)}


def _table(effects: Iterable[tuple[str, _Line, _Line, float]]) -> pd.DataFrame:
    """Rows from (name, the effect's line, its error's line, all unexplained sum of squares)."""
    rows = []
    for name, effect, error, everything in effects:
        # Without error variance a share of the variance means nothing either.
        share, share_of_all = (
            (float("nan"),) * 2
            if np.isnan(effect.f)
            else (
                effect.sum_sq / (effect.sum_sq + error.sum_sq),
                effect.sum_sq / (effect.sum_sq + everything),
            )
        )
        sums = (int(effect.df), int(error.df), effect.sum_sq, error.sum_sq)
        rows.append((name, *sums, effect.f, effect.p, share, share_of_all))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _complete(observations: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    """Models x relations, only models that have all relations."""
    _need(observations, *index, "relation", "auc")
    wide: pd.DataFrame = observations.pivot(index=index, columns="relation", values="auc").dropna()
    return wide


def _need(observations: pd.DataFrame, *columns: str) -> None:
    missing = [column for column in columns if column not in observations]
    if missing:
        raise InputError(f"the observations lack the column(s) {', '.join(missing)}")


def _need_error(df_error: int) -> None:
    if df_error < 1:
        raise InputError("no degrees of freedom are left for error: more seeds are needed")
