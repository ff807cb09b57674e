"""The queries on people equal their twins in NumPy and SciPy, and the paper's example comes out as printed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from sweep import statistics
from sweep.analysis.queries import run_query
from sweep.storage.index import index_of
from tests.queries.resampled import drawn
from tests.queries.simulated import Study, factorial, known_transfer, write
from tests.queries.simulated_human import Answers, write_human

STUDY = Study(factorial(2, 1, 5), percents=(1.0, 10.0), n_images=12, seed=3, chance=known_transfer(0.6))


Row = dict[str, Any]


def ask(name: str, root: Path, **parameters: str | int | float) -> list[Row]:
    rows: list[Row] = run_query(name, str(root), parameters).to_pylist()
    return rows


def close(got: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Equal to a relative tolerance; what SQL has no value for is NaN in NumPy."""
    numbers = [np.nan if value is None else value for value in np.atleast_1d(np.asarray(got, dtype=object))]
    np.testing.assert_allclose(
        np.array(numbers, dtype=np.float64), np.atleast_1d(expected), rtol=tolerance, atol=1e-12
    )


def simulated(
    observers: int,
    targets: int,
    seed: int,
    *,
    preference: float = 0.55,
    spread: float = 0.8,
    missing: float = 0.0,
) -> Answers:
    rng = np.random.default_rng(seed)
    logit = (
        np.log(preference / (1 - preference))
        + rng.normal(0, spread, targets)
        + rng.normal(0, 0.2, (observers, 1))
    )
    answers: Answers = (rng.random((observers, targets)) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    answers[rng.random(answers.shape) < missing] = np.nan
    return answers


def _index() -> bytes:
    return index_of([], {})


TWINS = {
    "crossed": statistics.over_both,
    "observers": statistics.over_observers,
    "targets": statistics.over_targets,
}


QUANTILE = 1e-6
"""To which the quantile of t in SQL is good."""


def check_preference(rows: list[Row], answers: Answers) -> dict[str, Row]:
    got = {row["test"]: row for row in rows}
    assert list(got) == list(TWINS)
    for test, twin in TWINS.items():
        expected, row = twin(answers), got[test]
        for column in ("preference", "std_error", "df", "t"):
            close(row[column], getattr(expected, column))
        close(row["p"], expected.p, 1e-10)
        for column in ("low", "high"):
            close(row[column], getattr(expected, column), QUANTILE)
        assert (row["note"] == "") == (row["p"] is not None)
    return got


def check_targets(rows: list[Row], answers: Answers) -> None:
    answered = ~np.isnan(answers).all(axis=0)
    expected = statistics.each_target(answers[:, answered])
    got = sorted(rows, key=lambda row: row["target"])
    assert [row["target"] for row in got] == [f"id{j:02d}" for j in np.flatnonzero(answered)]
    for column in ("preference", "low", "high", "p", "p_holm"):
        close([row[column] for row in got], getattr(expected, column), 1e-10)
    assert all((row["p_holm"] < 0.05) == (row["preferred"] != "") for row in got)


def check_agreement(rows: list[Row], answers: Answers) -> None:
    if not ((~np.isnan(answers)).sum(axis=0) > 1).any():
        assert not rows
        return
    (row,), expected = rows, statistics.agreement(answers)
    for column in ("agreement", "expected", "kappa"):
        close(row[column], getattr(expected, column))
    for column in ("low", "high"):
        close(row[column], getattr(expected, column), QUANTILE)


@dataclass(frozen=True)
class Asked:
    """Experiments in one study without models, which these queries do not need, and what each query says of them."""

    root: Path
    cases: dict[str, Answers]
    answers: dict[str, list[Row]]

    def rows(self, query: str, experiment: str) -> list[Row]:
        return [row for row in self.answers[query] if row["experiment_id"] == experiment]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    root = tmp_path_factory.mktemp("people")
    (root / "index.parquet").write_bytes(_index())
    rng = np.random.default_rng(11)
    cases = {
        "paper": papers_answers(),
        "large": simulated(46, 95, 1, missing=0.1),
        "complete": simulated(12, 20, 3),
    }
    for number in range(40):
        observers, targets = rng.integers(1, 10, 2)
        missing, preference = rng.choice([0.0, 0.3, 0.7]), rng.choice([0.05, 0.5])
        answers = simulated(observers, targets, number, preference=preference, missing=missing)
        if not np.isnan(answers).all():
            cases[f"e{number:02d}"] = answers
    for experiment, answers in cases.items():
        write_human(root, answers, experiment=experiment)
    queries = ("human_preference", "human_targets", "human_agreement")
    return Asked(root, cases, {name: ask(name, root) for name in queries})


def papers_answers() -> Answers:
    """46 observers of 95 targets whose shares have the mean and the standard error that the paper prints."""
    rng = np.random.default_rng(1)
    spread = rng.normal(size=46)
    spread = (spread - spread.mean()) / spread.std(ddof=1) * 0.0077 * np.sqrt(46)
    chosen = np.round((0.518 + spread) * 95).astype(int)
    chosen[0] -= 1  # so that the rounded numbers have the mean that is printed
    # Every observer chooses so many of the targets, whichever they are.
    return np.array([rng.permutation(np.arange(95) < count) for count in chosen], dtype=np.float64)


def test_sql_equals_numpy_on_any_answers(asked: Asked) -> None:
    tested = 0
    for experiment, answers in asked.cases.items():
        tests = check_preference(asked.rows("human_preference", experiment), answers)
        tested += tests["crossed"]["p"] is not None
        check_targets(asked.rows("human_targets", experiment), answers)
        check_agreement(asked.rows("human_agreement", experiment), answers)
    assert 20 < tested < len(asked.cases)


def test_at_the_papers_size_the_tests_by_groups_are_scipys(asked: Asked) -> None:
    answers = asked.cases["large"]
    got = {row["test"]: row for row in asked.rows("human_preference", "large")}
    for test, axis in {"observers": 1, "targets": 0}.items():
        expected = stats.ttest_1samp(np.nanmean(answers, axis=axis), 0.5)
        assert got[test]["t"] == pytest.approx(expected.statistic, rel=1e-12)
        assert got[test]["df"] == expected.df
        assert got[test]["p"] == pytest.approx(expected.pvalue, rel=1e-10)
    crossed = got["crossed"]
    assert "further observers and to further targets" in crossed["meaning"]
    assert crossed["excluded"] == "s900 (3 of 10 catch trials right)"
    assert (crossed["n_excluded"], crossed["n_too_fast"], crossed["n_simulated"]) == (1, 3, 0)
    assert crossed["n_answers"] == (~np.isnan(answers)).sum()
    # An answer that came too fast counts where nothing is called too fast.
    one = ask("human_preference", asked.root, experiment="large", fastest=0)
    assert [row["n_answers"] for row in one] == [crossed["n_answers"] + 3] * 3


def test_the_papers_example(asked: Asked) -> None:
    row = asked.rows("human_preference", "paper")[1]
    assert row["df"] == 45
    assert (row["preference"], row["std_error"]) == pytest.approx((0.518, 0.0077), abs=4e-4)
    assert row["t"] == pytest.approx(2.34, abs=0.01)
    assert row["p"] == pytest.approx(0.0235, abs=0.001)


def test_a_complete_crossing_is_the_analysis_of_variance(asked: Asked) -> None:
    answers, row = asked.cases["complete"], asked.rows("human_preference", "complete")[0]
    of_observers = answers.mean(axis=1, keepdims=True) - answers.mean()
    of_targets = answers.mean(axis=0, keepdims=True) - answers.mean()
    ms_observers = 20 * (of_observers**2).sum() / 11
    ms_targets = 12 * (of_targets**2).sum() / 19
    ms_error = ((answers - answers.mean() - of_observers - of_targets) ** 2).sum() / (11 * 19)
    assert min(ms_observers, ms_targets) > ms_error  # or a component would be 0
    whole = ms_observers + ms_targets - ms_error
    assert row["std_error"] == pytest.approx(np.sqrt(whole / 240), rel=1e-12)
    df = whole**2 / (ms_observers**2 / 11 + ms_targets**2 / 19 + ms_error**2 / (11 * 19))
    assert row["df"] == pytest.approx(df, rel=1e-12)


def test_a_study_without_people_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "index.parquet").write_bytes(_index())
    assert not ask("human_targets", tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answers]:
    root = tmp_path_factory.mktemp("whole")
    write(STUDY, root)
    answers = simulated(15, STUDY.n_images, 5, missing=0.1)
    write_human(root, answers)
    return root, answers


def test_agreement_with_each_model(whole: tuple[Path, Answers]) -> None:
    root, answers = whole
    got = {row["model_id"]: row for row in ask("human_models", root)}
    assert len(got) == len(STUDY.models)
    ranks = {
        (row["model_id"], row["image_id"], row["rank"]): row["class"]
        for row in pq.read_table(root / "predictions").to_pylist()
    }
    n = STUDY.n_images
    for model, row in got.items():
        shares = []
        for j in range(n):
            first, second = (ranks[model, f"img{j:02d}", rank] for rank in (1, 2))
            options = [f"id{(j + step) % n:02d}" for step in (1, 2)]
            if first == f"id{j:02d}" and second in options:
                share = np.nanmean(answers[:, j])
                shares.append(share if second == options[0] else 1 - share)
        expected = stats.ttest_1samp(shares, 0.5)
        interval = expected.confidence_interval(0.95)
        assert row["n_targets"] == len(shares) > 5
        assert row["agreement"] == pytest.approx(np.mean(shares), rel=1e-12)
        assert (row["t"], row["p"]) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-10)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), rel=QUANTILE)


def test_agreement_against_transfer(whole: tuple[Path, Answers]) -> None:
    root, _ = whole
    resamples = 50
    got = {(row["role"], row["scope"]): row for row in ask("human_transfer", root, resamples=resamples)}
    agreement = {row["model_id"]: row["agreement"] for row in ask("human_models", root)}
    losses = {
        (row["source_id"], row["destination_id"]): row["loss"]
        for row in ask("specific_loss", root)
        if row["control"] == "scattered"
    }
    models = np.array(sorted(agreement))
    matrix = np.array([[losses[source, destination] for destination in models] for source in models])
    foreign = ~np.eye(len(models), dtype=bool)
    own = np.broadcast_to(np.diag(matrix), matrix.shape)
    for role, axis in {"source": 1, "destination": 0}.items():
        above, below = (np.where(foreign, values, 0).sum(axis=axis) for values in (matrix, own))
        passing = below > 0
        x, y = (above / below)[passing], np.array([agreement[name] for name in models])[passing]
        conditions = np.array([name.rpartition("-")[0] for name in models])[passing]
        several = np.array([(conditions == name).sum() > 1 for name in conditions])
        centred = [
            values - np.array([values[conditions == name].mean() for name in conditions]) for values in (x, y)
        ]
        for scope, (a, b) in {"all": (x, y), "within": [values[several] for values in centred]}.items():
            row = got[role, scope]
            assert row["n_models"] == len(a) > 4
            assert row["rho"] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
            times = drawn("human", resamples, len(a)).astype(int)
            again = [np.repeat(np.arange(len(a)), own_times) for own_times in times]
            rhos = [
                stats.spearmanr(a[chosen], b[chosen]).statistic
                for chosen in again
                if len(set(a[chosen])) > 1 and len(set(b[chosen])) > 1
            ]
            assert row["n_resamples"] == len(rhos)
            assert (row["low"], row["high"]) == pytest.approx(np.quantile(rhos, [0.025, 0.975]), abs=1e-9)


def test_a_study_without_a_control_has_no_correlation(tmp_path: Path) -> None:
    write(Study(factorial(2, 1, 3), percents=(1.0, 10.0), n_images=12, n_random=0), tmp_path)
    write_human(tmp_path, simulated(6, 12, 7))
    got = ask("human_transfer", tmp_path)
    assert {row["note"] for row in got} == {"no correlation: the study has no control"}
    assert {row["rho"] for row in got} == {None}
