"""Answers as tables: the first one counts, what is torn is cut, what is wrong is refused without its value."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sweep.errors import InputError
from sweep.human.importing import Imported, _reasons, import_answers
from sweep.human.journal import BadLine, parsed
from sweep.human.lists import Design
from sweep.human.simulating import Observers, header, journal, session_lines, text
from sweep.human.tables import RESPONSES, SESSIONS, read_table
from sweep.human.trials import make_trials
from sweep.storage.files import Files
from tests.human.conftest import CONDITIONS, Simulated

Lines = list[dict[str, Any]]
SIMULATED = "3 sessions are simulated"


@pytest.fixture(scope="module")
def trials(study: Simulated) -> pa.Table:
    return make_trials(study.plan, study.store, CONDITIONS, Design(2, 2, 5)).rows


@pytest.fixture
def lines(trials: pa.Table) -> Lines:
    return journal(trials, 3, Observers(0.7))


def imported(study: Simulated, tmp_path: Path, *contents: str) -> Imported:
    paths = [tmp_path / f"answers-{number}.jsonl" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content.encode())
    return import_answers(study.store.files, paths)


def test_a_journal_becomes_two_tables(
    study: Simulated, tmp_path: Path, trials: pa.Table, lines: Lines
) -> None:
    found = imported(study, tmp_path, text(lines))
    answered = [line for line in lines if line["kind"] == "response"]
    assert found.responses.num_rows == len(answered) == 3 * trials.num_rows // 2
    assert (found.repeated, found.conflicts, found.notes, found.excluded) == (0, 0, (SIMULATED,), [])
    rows = {(row["session_id"], row["trial_id"]): row for row in found.responses.to_pylist()}
    for line in answered:
        row = rows[line["session_id"], line["trial_id"]]
        assert row["response_time"] == pytest.approx(line["response_time_ms"] / 1000)
        assert row["received"].isoformat() + "+00:00" == line["received"]
        assert row["subject_id"] == line["session_id"]
        assert all(row[name] == line[name] for name in ("position", "onset", "side", "choice", "source"))
    for row in found.sessions.to_pylist():
        assert row["finished"] > row["started"]
        assert (row["n_catch"], row["n_catch_right"]) == (5, 5)
        assert row["n_test"] == len(rows) // 3 - 5 - 3
    assert read_table(study.store.files, found.experiment_id, RESPONSES).equals(found.responses)
    assert read_table(study.store.files, found.experiment_id, SESSIONS).equals(found.sessions)


def test_downloads_and_results_of_jatos_are_the_same_lines(
    study: Simulated, tmp_path: Path, trials: pa.Table, lines: Lines
) -> None:
    whole = imported(study, tmp_path, text(lines))
    observers = Observers(0.7)
    each = [[header(trials), *session_lines(trials, observer, observers)] for observer in range(3)]
    for session in each:
        for line in session:
            line.pop("received", None)
    # A download each, as Windows and a spreadsheet may leave them; JATOS puts all results into one text.
    downloads = imported(
        study, tmp_path, *("\ufeff" + text(session).replace("\n", "\r\n") for session in each)
    )
    jatos = imported(study, tmp_path, "\n".join(text(session) for session in each))
    assert jatos.responses.equals(downloads.responses)
    assert jatos.sessions.equals(whole.sessions)
    assert jatos.responses.drop(["received"]).equals(whole.responses.drop(["received"]))
    assert jatos.responses["received"].null_count == jatos.responses.num_rows


def test_the_first_answer_counts(study: Simulated, tmp_path: Path, lines: Lines) -> None:
    once = imported(study, tmp_path, text(lines))
    same = next(line for line in lines if line["kind"] == "response")
    other = copy.deepcopy(next(line for line in reversed(lines) if line["kind"] == "response"))
    other |= {
        name: pair[other[name] == pair[0]]
        for name, pair in {"side": ("left", "right"), "choice": "ab"}.items()
    }
    twice = imported(study, tmp_path, text(lines), text([lines[0], same, other]))
    assert (twice.repeated, twice.conflicts) == (1, 1)
    assert twice.responses.equals(once.responses)


def test_a_torn_last_line_is_cut_and_told(study: Simulated, tmp_path: Path, lines: Lines) -> None:
    whole = imported(study, tmp_path, text(lines[:-1]))
    torn = imported(study, tmp_path, text(lines)[:-20])
    assert torn.responses.equals(whole.responses)
    assert torn.sessions.equals(whole.sessions)
    cut = f"{tmp_path}/answers-0.jsonl: line {len(lines)}, the last one, is torn and was left out"
    assert torn.notes == (cut, SIMULATED)
    # A last line that is whole counts with or without its end.
    assert imported(study, tmp_path, text(lines).rstrip("\n")).notes == (SIMULATED,)


def test_sessions_are_left_out_for_reasons_that_are_told(
    study: Simulated, tmp_path: Path, trials: pa.Table
) -> None:
    observers = Observers(0.5)
    lines = journal(trials, 4, observers, careless=1)
    lines = [line for line in lines if line.get("session_id") != "simulated-0" or line["kind"] == "session"]
    short = [dict(line) for line in session_lines(trials, 7, observers)][:12]
    for line in short:
        line |= {"subject_id": "simulated-2"} if line["kind"] == "session" else {}
    found = imported(study, tmp_path, text(lines + short))
    assert {row["session_id"]: row["reason"] for row in found.excluded} == {
        "simulated-0": "no test trial answered",
        "simulated-3": "0 of 5 catch trials right, which is less than 80 %",
        "simulated-7": "its observer has a longer session, simulated-2",
    }


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda line: line.update(choice="secret"), "choice: literal error"),
        (lambda line: line.update(response_time_ms=float("nan")), "response_time_ms: finite number"),
        (lambda line: line.update(secret=1), "extra forbidden"),
        (lambda line: line.pop("side"), "side: missing"),
        (lambda line: line.update(trial_id="secret"), "trial_id: is none of the experiment"),
        (lambda line: line.update(session_id="secret"), "session_id: no line of the kind session has it"),
        (lambda line: line.update(position=line["position"] + 1), "position: is not that of the trial"),
        (
            lambda line: line.update(choice="ba"[line["choice"] == "b"]),
            "choice: is not the option on the side",
        ),
        (lambda line: line.update(received="2026-01-31T12:00:00+02:00"), "received: must be a moment in UTC"),
    ],
)
def test_a_wrong_line_is_refused_by_its_place_and_without_its_value(
    study: Simulated, tmp_path: Path, lines: Lines, spoil: Callable[[dict[str, Any]], Any], expected: str
) -> None:
    before = imported(study, tmp_path, text(lines))
    spoil(lines[5])
    with pytest.raises(InputError) as caught:
        imported(study, tmp_path, text(lines))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path}/answers-0.jsonl: line 6: {expected}")
    assert "secret" not in problem
    assert read_table(study.store.files, before.experiment_id, RESPONSES).equals(before.responses)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "holds no lines"),
        ("subject,choice\n1,a\n", "line 1: is no JSON"),
        ('{"kind": "experiment", "experiment_id": "0123", "version": 1}\n', "experiment_id: is none of"),
        ('{"kind": "experiment", "experiment_id": "0123", "version": 2}\n', "version: literal error"),
    ],
)
def test_what_is_no_journal_is_refused(study: Simulated, tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        imported(study, tmp_path, content)
    assert expected in str(caught.value)


def test_many_wrong_lines_are_counted(study: Simulated, tmp_path: Path, lines: Lines) -> None:
    with pytest.raises(InputError) as caught:
        imported(study, tmp_path, text(lines[:1]) + "{}\n" * 50)
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "and 30 more lines like these"
    with pytest.raises(InputError) as caught:
        import_answers(study.store.files, [tmp_path])
    assert caught.value.problems == [f"{tmp_path}: is a directory; name a file of answers"]


def test_results_without_an_experiment_say_so(tmp_path: Path, lines: Lines) -> None:
    (tmp_path / "answers.jsonl").write_text(text(lines))
    with pytest.raises(InputError, match="which holds: none"):
        import_answers(Files(str(tmp_path / "empty")), [tmp_path / "answers.jsonl"])


@pytest.mark.parametrize("line", ["[" * 100_000, '"\\ud800"', "null", '{"kind": "experiment"', b"\xff{}"])
def test_no_line_is_a_reason_to_crash(line: str | bytes) -> None:
    with pytest.raises(BadLine):
        parsed(line)


def test_a_share_that_is_just_reached_is_reached() -> None:
    row = {"n_test": 9, "n_catch": 25, "n_catch_right": 14, "session_id": "s"}
    assert 0.56 * 25 > 14  # the number as it is computed
    assert list(_reasons(row, "s", 0.56)) == []
    assert list(_reasons(row, "s", 0.57)) == ["14 of 25 catch trials right, which is less than 57 %"]
