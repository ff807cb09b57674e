"""Asking queries while figures are drawn changes nothing but the time."""

from pathlib import Path

import pytest

from sweep.plan import make_plan
from sweep.report import ahead
from sweep.report.ahead import NEEDED, asked_ahead
from sweep.report.answers import Answers, answers_of
from sweep.report.page import write_report
from sweep.storage.store import Store
from tests.report.simulated import simulate
from tests.studies import write_small_study


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study, simulated."""
    folder = tmp_path_factory.mktemp("ahead")
    plan = make_plan(write_small_study(folder).path)
    simulate(plan, Store(str(folder / "results")))
    return folder


def fresh(place: Path) -> Answers:
    return answers_of(make_plan(place / "study.yaml"), Store(str(place / "results")))


def test_the_report_is_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_report(fresh(place))
    monkeypatch.setattr(ahead, "NEEDED", ())
    assert write_report(fresh(place)) == files


def test_each_query_is_asked_once_whoever_asks_first(place: Path) -> None:
    answers = fresh(place)
    with asked_ahead(answers):
        for name in NEEDED[::-1]:
            getattr(answers, name)
    asked = [query for query, *_ in answers._known]
    assert set(asked) >= {"auc", "bins", "transfer", "pairwise", "effect_sizes", "rank2", "map_similarity"}
    assert answers.auc["mean"] is answers._ask("auc", fill="mean")


def test_what_fails_is_told_by_whoever_needs_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "NEEDED", ("no_such_answer", "auc"))
    answers = fresh(place)
    with asked_ahead(answers):
        pass
    with pytest.raises(ZeroDivisionError), asked_ahead(answers):
        raise ZeroDivisionError
    assert answers.auc["mean"].num_rows
