"""The Python statistics against textbook numbers, against each other, and on designs they cannot test."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from sweep import statistics
from sweep.errors import InputError
from sweep.statistics.anova import greenhouse_geisser
from sweep.statistics.pairs import holm

# A small repeated-measures design: six subjects, three conditions. Sums by hand: conditions 143.44, error 57.22.
SUBJECTS = [[45, 50, 55], [42, 42, 45], [36, 41, 43], [39, 35, 40], [51, 55, 59], [44, 49, 56]]


def observations(
    groups: dict[str, int], sources: int, seed: int = 0, effect: float = 0.0, between: float = 0.1
) -> pd.DataFrame:
    """Models in groups, each measured with every source; `effect` is added for the last source."""
    rng = np.random.default_rng(seed)
    rows = []
    for group, size in groups.items():
        for model in range(size):
            level = rng.normal(0.6, between)
            for source in range(sources):
                value = level + rng.normal(0, 0.05) + (effect if source == sources - 1 else 0)
                rows.append((f"{group}-s{model}", group, f"source{source}", value))
    return pd.DataFrame(rows, columns=["destination_id", "pretraining", "relation", "auc"])


def from_rows(values: list[list[int]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (f"model{i}", f"source{j}", float(value))
            for i, row in enumerate(values)
            for j, value in enumerate(row)
        ],
        columns=["destination_id", "relation", "auc"],
    )


def test_repeated_measures_of_a_worked_example() -> None:
    row = statistics.repeated_measures(from_rows(SUBJECTS)).iloc[0]
    assert (row["df"], row["df_error"]) == (2, 10)
    assert row["sum_sq"] == pytest.approx(143.444, abs=5e-4)
    assert row["sum_sq_error"] == pytest.approx(57.222, abs=5e-4)
    assert row["f"] == pytest.approx(12.534, abs=5e-4)
    assert row["p"] == pytest.approx(stats.f.sf(row["f"], 2, 10))
    assert row["partial_eta_sq"] == pytest.approx(143.444 / (143.444 + 57.222), abs=1e-5)


def test_greenhouse_geisser_is_between_its_bounds() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(12, 4))
    epsilon = greenhouse_geisser(values)
    assert 1 / 3 < epsilon < 1
    # By the formula of the doubly centred covariance matrix.
    covariance = np.cov(values, rowvar=False)
    centred = covariance - covariance.mean(0) - covariance.mean(1)[:, None] + covariance.mean()
    assert epsilon == pytest.approx(np.trace(centred) ** 2 / (3 * (centred**2).sum()))
    assert greenhouse_geisser(values[:, :2]) == pytest.approx(1)
    one_direction = np.outer(rng.normal(size=12), [1.0, 2.0, 3.0, 4.0])
    assert greenhouse_geisser(one_direction) == pytest.approx(1 / 3)


def test_two_sources_make_a_paired_t_test() -> None:
    frame = observations({"a": 7}, 2, effect=0.03)
    wide = frame.pivot(index="destination_id", columns="relation", values="auc")
    t = stats.ttest_rel(wide["source0"], wide["source1"])
    row = statistics.repeated_measures(frame).iloc[0]
    assert row["f"] == pytest.approx(t.statistic**2)
    assert row["p"] == row["gg_p"] == pytest.approx(t.pvalue)
    pair = statistics.pairwise_t(frame, "paired").iloc[0]
    assert (pair["t"], pair["p"]) == (pytest.approx(t.statistic), pytest.approx(t.pvalue))
    student = stats.ttest_ind(wide["source0"], wide["source1"])
    assert statistics.one_way(frame)["f"].iloc[0] == pytest.approx(student.statistic**2)
    assert statistics.pairwise_t(frame, "unpaired")["p"].iloc[0] == pytest.approx(student.pvalue)
    welch = stats.ttest_ind(wide["source0"], wide["source1"], equal_var=False)
    assert statistics.pairwise_t(frame, "welch")["p"].iloc[0] == pytest.approx(welch.pvalue)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(2, 6), min_size=2, max_size=4), st.integers(0, 1000))
def test_mixed_is_the_error_strata_of_one_linear_model(sizes: list[int], seed: int) -> None:
    """The same F from a single regression with a column per model, where the strata are read off."""
    groups = {f"g{i}": size for i, size in enumerate(sizes)}
    frame = observations(groups, 2, seed, effect=0.05)
    table = statistics.mixed(frame).set_index("effect")
    wide = frame.pivot(index=["pretraining", "destination_id"], columns="relation", values="auc")
    difference = (wide["source0"] - wide["source1"]).groupby("pretraining")
    pooled = (difference.var() * (difference.count() - 1)).sum() / (len(wide) - len(groups))
    # The mean of the groups' mean differences, each group counting once: type III.
    t = difference.mean().mean() / np.sqrt(pooled * (1 / difference.count()).sum() / len(groups) ** 2)
    assert table.loc["mask_source", "f"] == pytest.approx(t**2, rel=1e-9)
    means = [group.to_numpy() for _, group in wide.mean(axis=1).groupby("pretraining")]
    assert table.loc["pretraining", "f"] == pytest.approx(stats.f_oneway(*means).statistic, rel=1e-9)
    differences = [group.to_numpy() for _, group in difference]
    interaction = table.loc["pretraining:mask_source", "f"]
    assert interaction == pytest.approx(stats.f_oneway(*differences).statistic, rel=1e-9)


def test_between_and_within_share_the_effects_of_a_balanced_design() -> None:
    frame = observations({"a": 5, "b": 5}, 2, effect=0.05)
    between, within = statistics.two_way(frame), statistics.mixed(frame)
    np.testing.assert_allclose(between["sum_sq"], within["sum_sq"])
    np.testing.assert_allclose(between["generalised_eta_sq"], within["generalised_eta_sq"])
    assert between["df_error"].tolist() == [16, 16, 16]
    assert within["df_error"].tolist() == [8, 8, 8]
    assert within["p"][1] < between["p"][1]


def test_mixed_linear_model_agrees_in_a_balanced_design() -> None:
    frame = observations({"a": 8, "b": 8}, 2, effect=0.04)
    table = statistics.mixed_linear_model(frame).set_index("effect")
    exact = statistics.mixed(frame).set_index("effect")
    assert table["converged"].all()
    np.testing.assert_allclose(table["chi2"] / table["df"], exact.loc[table.index, "f"], rtol=1e-5)
    assert 0.05 < np.sqrt(table["variance_models"].iloc[0]) < 0.2
    assert np.sqrt(table["variance_error"].iloc[0]) == pytest.approx(0.05, rel=0.5)


def test_mixed_linear_model_says_when_models_do_not_differ() -> None:
    frame = observations({"a": 4, "b": 4}, 2, seed=2)
    # Opposite deviations of the two sources: the variance between models can only be estimated as zero.
    deviation = np.tile(np.repeat([0.1, 0.2, 0.15, 0.12], 2), 2)
    opposite = np.where(frame["relation"] == "source0", deviation, -deviation)
    frame["auc"] = opposite + np.random.default_rng(0).normal(0, 0.005, len(frame))
    table = statistics.mixed_linear_model(frame)
    assert not table["converged"].any()
    assert table["variance_models"].iloc[0] == pytest.approx(0, abs=1e-6)
    # With nothing between the models, they are independent observations.
    np.testing.assert_allclose(table["chi2"], statistics.two_way(frame)["f"], rtol=1e-6)


def test_holm_is_that_of_statsmodels_and_skips_what_is_missing() -> None:
    rng = np.random.default_rng(5)
    for size in (1, 2, 6, 20):
        p = rng.uniform(size=size) ** 3
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    with_gap = holm(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(with_gap, [0.02, np.nan, 0.04])
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_tukey_of_equal_groups() -> None:
    frame = observations({"a": 6}, 3, effect=0.2)
    got = statistics.tukey(frame)
    groups = [group.to_numpy() for _, group in frame.groupby("relation")["auc"]]
    reference = stats.tukey_hsd(*groups)
    interval = reference.confidence_interval(0.95)
    for row, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        assert got["p"][row] == pytest.approx(reference.pvalue[i, j], abs=1e-6)
        assert got["difference"][row] == pytest.approx(reference.statistic[i, j])
        assert got["low"][row] == pytest.approx(interval.low[i, j], abs=1e-6)
        assert got["high"][row] == pytest.approx(interval.high[i, j], abs=1e-6)
    assert got[["source_a", "source_b"]].iloc[1].tolist() == ["source0", "source2"]


def test_normality_looks_at_residuals() -> None:
    rng = np.random.default_rng(7)
    frame = pd.DataFrame({"relation": np.repeat(["a", "b"], 40), "auc": rng.normal(size=80)})
    frame.loc[frame["relation"] == "b", "auc"] += 100
    assert statistics.normality(frame)["p"].iloc[0] > 0.05
    frame["auc"] = rng.lognormal(sigma=1.5, size=80)
    assert statistics.normality(frame)["p"].iloc[0] < 1e-6


def test_equal_variances() -> None:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"relation": np.repeat(["a", "b", "c"], [30, 30, 1]), "auc": rng.normal(size=61)})
    same = statistics.equal_variances(frame).iloc[0]
    assert (same["n_groups"], same["df"], same["df_error"]) == (2, 1, 58)
    assert same["p"] > 0.05
    frame.loc[frame["relation"] == "b", "auc"] *= 6
    assert statistics.equal_variances(frame)["p"].iloc[0] < 1e-4


def test_areas() -> None:
    percents = [0, 1, 10, 100]
    # Half way down between 1 and 10 on the log axis; 0 and 100 do not count there.
    assert statistics.area_under_curve(percents, [1, 1, 0, 0]) == pytest.approx(0.5)
    linear = statistics.area_under_curve(percents, [1, 1, 0, 0], "linear")
    assert linear == pytest.approx((1 + 4.5) / 100)
    sorted_ = statistics.area_under_curve([0.1, 1, 10], [[1.0, 0.8, 0.0], [1.0, 1.0, 1.0]])
    np.testing.assert_allclose(sorted_, [0.65, 1.0])
    shuffled = statistics.area_under_curve([1, 0.1, 10], [[0.8, 1.0, 0.0], [1.0, 1.0, 1.0]])
    np.testing.assert_allclose(shuffled, sorted_)


def test_a_bootstrap_is_seeded_and_holds_the_mean() -> None:
    rng = np.random.default_rng(9)
    percents = [0.1, 1.0, 10.0]
    curves = np.clip(rng.normal([0.9, 0.7, 0.4], 0.05, size=(20, 3)), 0, 1)
    band = statistics.bootstrap_band(percents, curves, seed=1)
    again = statistics.bootstrap_band(percents, curves, seed=1)
    other = statistics.bootstrap_band(percents, curves, seed=2)
    np.testing.assert_array_equal(band.low, again.low)
    assert (band.auc_low, band.auc_high) == (again.auc_low, again.auc_high)
    assert (band.low != other.low).any()
    assert (band.low < band.mean).all()
    assert (band.mean < band.high).all()
    assert band.auc_low < band.auc < band.auc_high
    np.testing.assert_allclose(band.mean, curves.mean(axis=0))
    # The spread of resampled means is that of the mean.
    width = (band.high - band.low) / (2 * 1.96)
    np.testing.assert_allclose(width, curves.std(axis=0) / np.sqrt(20), rtol=0.1)


def test_a_bootstrap_covers_the_truth() -> None:
    rng = np.random.default_rng(10)
    inside = 0
    for seed in range(300):
        curves = rng.normal(0.5, 0.1, size=(25, 2))
        band = statistics.bootstrap_band([1.0, 10.0], curves, draws=400, seed=seed)
        inside += band.auc_low <= 0.5 <= band.auc_high
    assert 0.88 < inside / 300 < 0.98


ONE_SOURCE = observations({"a": 3, "b": 3}, 1)
ONE_MODEL = observations({"a": 1, "b": 1}, 2)
ONE_GROUP = observations({"a": 4}, 2)
THREE_SOURCES = observations({"a": 3, "b": 3}, 3)
CONSTANT = observations({"a": 3, "b": 3}, 2).assign(auc=0.5)
GAP = observations({"a": 3, "b": 3}, 2).query("not (pretraining == 'b' and relation == 'source1')")


@pytest.mark.parametrize(
    ("test", "frame", "said"),
    [
        (statistics.two_way, ONE_SOURCE, "two mask sources"),
        (statistics.two_way, ONE_GROUP, "two levels of pretraining"),
        (statistics.two_way, ONE_MODEL, "more seeds"),
        (statistics.two_way, GAP, "has no observation"),
        (statistics.two_way, GAP.drop(columns="auc"), "lack the column"),
        (statistics.mixed, ONE_GROUP, "two levels of pretraining"),
        (statistics.mixed, ONE_MODEL, "more seeds"),
        (statistics.mixed, THREE_SOURCES, "not 3"),
        (statistics.mixed_linear_model, GAP, "every combination"),
        (statistics.one_way, ONE_SOURCE, "two mask sources"),
        (statistics.one_way, ONE_MODEL.iloc[:2], "more seeds"),
        (statistics.repeated_measures, ONE_SOURCE, "two mask sources"),
        (statistics.repeated_measures, ONE_MODEL.iloc[:2], "two models"),
        (statistics.repeated_measures, CONSTANT, "no error variance"),
        (statistics.pairwise_t, ONE_SOURCE, "two mask sources"),
        (lambda frame: statistics.pairwise_t(frame, "signed"), THREE_SOURCES, "'signed'"),
        (statistics.tukey, ONE_SOURCE, "two mask sources"),
        (statistics.normality, CONSTANT, "differ within"),
        (statistics.equal_variances, CONSTANT, "that differ"),
        (statistics.equal_variances, ONE_MODEL.iloc[:2], "two groups"),
        (lambda frame: statistics.area_under_curve([1, 2], [0.5, 0.5], "root"), CONSTANT, "'root'"),
        (lambda frame: statistics.area_under_curve([1, 2], [0.5]), CONSTANT, "does not fit"),
        (lambda frame: statistics.area_under_curve([0, 5, 100], [1, 1, 1]), CONSTANT, "two different"),
        (lambda frame: statistics.bootstrap_band([1, 2], [0.5, 0.5]), CONSTANT, "shape"),
        (lambda frame: statistics.bootstrap_band([1, 2], [[0.5, 0.5]], draws=0), CONSTANT, "draws"),
    ],
)
def test_a_design_that_cannot_be_tested_says_why(test: object, frame: pd.DataFrame, said: str) -> None:
    assert callable(test)
    with pytest.raises(InputError, match=said):
        test(frame)


def test_no_variance_within_cells_leaves_f_open() -> None:
    assert statistics.two_way(CONSTANT)[["f", "p", "partial_eta_sq"]].isna().all().all()
    assert statistics.one_way(CONSTANT)["p"].isna().all()
    assert statistics.pairwise_t(CONSTANT)["p_holm"].isna().all()
    assert statistics.pairwise_t(CONSTANT, "welch")["p"].isna().all()


def test_models_without_every_source_are_left_out() -> None:
    frame = observations({"a": 5, "b": 5}, 2)
    partial = frame.drop(index=[0])
    assert statistics.mixed(partial)["df_error"].tolist() == [7, 7, 7]
    assert statistics.repeated_measures(partial)["df_error"].iloc[0] == 8
    assert statistics.pairwise_t(partial, "paired")["n_a"].iloc[0] == 9
    assert statistics.pairwise_t(partial, "unpaired")["n_b"].iloc[0] == 10
