"""Every test in SQL equals the one fitted by statsmodels, on any design."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from sweep import statistics
from sweep.analysis.queries import run_query
from sweep.errors import InputError
from tests.queries.simulated import Study, expected_auc, factorial, studies, write

FIGURES = ["df", "df_error", "sum_sq", "sum_sq_error", "f", "p"]
SIZES = ["partial_eta_sq", "generalised_eta_sq"]


class Case:
    """A study on disk, its AUCs by pandas, and the answers of the queries, each asked once."""

    def __init__(self, root: Path, study: Study, **parameters: str) -> None:
        write(study, root)
        self.root, self.study, self.parameters = root, study, parameters
        self.observed = expected_auc(root, study)
        self.conditions = {model.model_id.rpartition("-")[0] for model in study.models}
        self._answers: dict[str, pd.DataFrame] = {}

    def answer(self, name: str) -> pd.DataFrame:
        if name not in self._answers:
            self._answers[name] = run_query(name, str(self.root), self.parameters).to_pandas()
        return self._answers[name]

    def observed_in(self, *relations: str) -> pd.DataFrame:
        """Observations of the bins named; by default of those that figure 6 compares."""
        bins = self.observed["relation"]
        if relations:
            return self.observed[bins.isin(relations)]
        return self.observed[bins.str.startswith("other_") | (bins == "same_init")]


def assert_equal(
    got: pd.DataFrame | pd.Series, expected: pd.DataFrame | pd.Series, columns: list[str]
) -> None:
    for column in columns:
        np.testing.assert_allclose(
            np.asarray(got[column], dtype=np.float64),
            np.asarray(expected[column], dtype=np.float64),
            rtol=1e-9,
            atol=1e-9,
            err_msg=column,
        )


def check_initialisation(case: Case) -> int:
    """Compare all tests of figure 5; the number of tests that were possible."""
    observed = case.observed_in("same_init", "same_task_same_pretraining")
    rows, sizes = case.answer("anova_initialisation"), case.answer("effect_sizes")
    sizes = sizes[sizes["figure"] == "5"].set_index(["family", "extra", "design", "effect"])
    assert len(rows) == 6 * len({(model.task, model.extra) for model in case.study.models})
    possible = 0
    for (task, extra, design), table in rows.groupby(["task", "extra", "design"]):
        here = observed[(observed["task"] == task) & (observed["extra"] == extra)]
        counts = here.groupby("pretraining")["relation"].nunique()
        if design == "between":
            here = here[here["pretraining"].isin(counts.index[counts == 2])]
        try:
            expected = (statistics.two_way if design == "between" else statistics.mixed)(here)
        except InputError:
            # With one pretraining SQL still compares the sources; nothing else may have been tested.
            tested = table[table["f"].notna()]
            assert set(tested["effect"]) <= {"mask_source"}
            assert table.loc[table["f"].isna(), "note"].str.startswith("no test").all()
            continue
        expected = expected.set_index("effect").loc[table["effect"]]
        assert_equal(table, expected, FIGURES)
        assert (table["f"].isna().to_numpy() == table["note"].str.startswith("no test").to_numpy()).all()
        testable = table["f"].notna().to_numpy()
        at = pd.MultiIndex.from_tuples(
            [(task, extra, design, effect) for effect in table["effect"][testable]]
        )
        assert_equal(sizes.loc[at], expected[testable], SIZES)
        possible += int(testable.sum())
    return possible


def check_source(case: Case, *relations: str) -> int:
    """Compare all tests of figure 6; the number of tests that were possible."""
    observed = case.observed_in(*relations)
    rows, sizes = case.answer("anova_source"), case.answer("effect_sizes")
    sizes = sizes[sizes["figure"] == "6"].set_index(["family", "design"])
    assert len(rows) == 2 * len(case.conditions)
    possible = 0
    for _, row in rows.iterrows():
        here = observed[observed["condition"] == row["condition"]]
        repeated = row["design"] == "repeated"
        try:
            expected = (statistics.repeated_measures if repeated else statistics.one_way)(here).iloc[0]
        except InputError:
            assert np.isnan(row["f"])
            assert row["note"].startswith("no test")
            continue
        if np.isnan(expected["f"]):
            assert row["note"] == "no test: no error variance"
            continue
        assert_equal(row, expected, FIGURES)
        assert_equal(sizes.loc[(row["condition"], row["design"])], expected, SIZES)
        if repeated:
            assert_equal(row, expected, ["gg_epsilon", "gg_df", "gg_df_error", "gg_p"])
        possible += 1
    return possible


def check_pairs(case: Case) -> int:
    """Compare all pairwise tests; the number of tests that were possible."""
    observed, rows = case.observed_in(), case.answer("pairwise")
    possible = 0
    for condition in sorted(case.conditions):
        here = observed[observed["condition"] == condition]
        table = rows[rows["condition"] == condition]
        if here["relation"].nunique() < 2:
            assert table["note"].tolist() == ["no test: fewer than two mask sources to compare"]
            continue
        for test, got in table.groupby("test"):
            expected = statistics.pairwise_t(here, str(test))
            assert (
                got[["source_a", "source_b"]].to_numpy().tolist()
                == expected[["source_a", "source_b"]].to_numpy().tolist()
            )
            assert_equal(got, expected, ["n_a", "n_b", "difference", "t", "df", "p", "p_holm"])
            impossible = got["p"].isna().to_numpy()
            assert (got["note"].str.startswith("no test").to_numpy() == impossible).all()
            possible += int((~impossible).sum())
    return possible


@settings(deadline=None, max_examples=15)
@given(studies())
def test_any_design(tmp_path_factory: pytest.TempPathFactory, study: Study) -> None:
    case = Case(tmp_path_factory.mktemp("study"), study)
    check_initialisation(case)
    check_source(case)
    check_pairs(case)


def test_the_papers_design_allows_every_test(tmp_path: Path) -> None:
    case = Case(tmp_path, Study(factorial(), seed=3))
    assert check_initialisation(case) == 12
    assert check_source(case) == 8
    assert check_pairs(case) == 4 * 3 * 6
    degrees = case.answer("anova_initialisation")[["design", "df", "df_error"]].drop_duplicates()
    assert degrees.to_numpy().tolist() == [["between", 1, 16], ["mixed", 1, 8]]
    degrees = case.answer("anova_source")[["design", "df", "df_error"]].drop_duplicates()
    assert degrees.to_numpy().tolist() == [["between", 3, 16], ["repeated", 3, 12]]


def test_other_sources_can_be_compared(tmp_path: Path) -> None:
    bins = ("random", "same_init", "same_task_same_pretraining")
    case = Case(tmp_path, Study(factorial(), seed=3), compare=", ".join(bins))
    assert check_source(case, *bins) == 8


def test_unequal_cells_lose_no_test(tmp_path: Path) -> None:
    seeds = {("pre0", "identity"): 5, ("pre1", "identity"): 3, ("pre2", "identity"): 4}
    case = Case(tmp_path, Study(factorial(3, 1, seeds), seed=4))
    assert check_initialisation(case) == 6
    assert check_source(case) == 6


def test_one_task_two_pretrainings(tmp_path: Path) -> None:
    case = Case(tmp_path, Study(factorial(2, 1, 5), seed=5))
    assert check_initialisation(case) == 6
    assert check_source(case) == 4
    assert check_pairs(case) == 6


@pytest.mark.parametrize(
    ("study", "query", "reason"),
    [
        (Study(factorial(2, 2, 1)), "anova_initialisation", "two seeds are needed"),
        (Study(factorial(2, 2, 1)), "anova_source", "more seeds are needed"),
        (Study(factorial(2, 2, 1)), "pairwise", "too few models"),
        (Study(factorial(1, 1, 4)), "anova_source", "fewer than two mask sources"),
        (Study(factorial(1, 1, 4)), "pairwise", "fewer than two mask sources"),
        (Study(factorial(2, 2, 3), accuracy=lambda *_: 2.0), "anova_initialisation", "no variance"),
        (Study(factorial(2, 2, 3), accuracy=lambda *_: 2.0), "anova_source", "no error variance"),
        (Study(factorial(2, 2, 3), accuracy=lambda *_: 2.0), "pairwise", "no variance"),
        (Study(factorial(2, 2, 3), accuracy=lambda *_: 2.0), "effect_sizes", "no "),
    ],
)
def test_an_impossible_test_says_why(tmp_path: Path, study: Study, query: str, reason: str) -> None:
    got = Case(tmp_path, study).answer(query)
    assert len(got)
    assert got["note"].str.contains(reason).all()
    assert got["note"].str.startswith("no test").all()
    assert got["p"].isna().all()


def test_one_pretraining_leaves_the_comparison_of_sources(tmp_path: Path) -> None:
    case = Case(tmp_path, Study(factorial(1, 1, 5), seed=6))
    got = case.answer("anova_initialisation").set_index(["design", "effect"])
    observed = case.observed_in("same_init", "same_task_same_pretraining")
    between, within = statistics.one_way(observed), statistics.repeated_measures(observed)
    assert got.loc[("between", "mask_source"), "p"] == pytest.approx(between["p"].iloc[0], rel=1e-9)
    assert got.loc[("mixed", "mask_source"), "p"] == pytest.approx(within["p"].iloc[0], rel=1e-9)
    assert got.loc[("mixed", "pretraining"), "note"] == "no test: one pretraining only"


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    study = Study(factorial(2, 1, 3), seed=7)
    study.missing = {(source, study.models[0].model_id) for source in study.sources}
    case = Case(tmp_path, study)
    for query in ("anova_initialisation", "anova_source"):
        assert "1 model(s) left out for want of masks" in case.answer(query)["note"].iloc[0]


def test_the_axis_of_the_area_can_be_chosen(tmp_path: Path) -> None:
    case = Case(tmp_path, Study(factorial(2, 1, 4), seed=8), auc_axis="linear")
    case.observed["auc"] = case.observed["auc_linear"]
    assert check_initialisation(case) == 6
    assert check_source(case) == 4
