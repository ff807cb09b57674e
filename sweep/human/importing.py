"""Answers of people, from journals, downloads and results of JATOS, as the tables of an experiment.

The tables are made again from the files that an import names, so what is no longer in a journal (an observer withdrew)
is no longer in the tables either.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from sweep.errors import InputError
from sweep.human.journal import BadLine, FinishLine, Header, ResponseLine, SessionLine, parsed
from sweep.human.simulating import PREFIX
from sweep.human.tables import RESPONSES, SESSIONS, TRIALS, experiments, read_table, write_table
from sweep.storage.files import Files
from sweep.storage.schemas import SCHEMAS

CATCH_RIGHT = 0.8
"""Share of catch trials that an observer must answer as expected."""
NAMED = 20
"""Problems that are told one by one."""

Place: TypeAlias = str
"""A file and a line of it, as in 'journal.jsonl: line 7'."""
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Imported:
    """What an import has found."""

    experiment_id: str
    sessions: pa.Table
    """Rows of the table `human_sessions`."""
    responses: pa.Table
    """Rows of the table `human_responses`."""
    repeated: int
    """Answers that came again and were the same."""
    conflicts: int
    """Answers that came again with another choice; the first one counts."""
    notes: Sequence[str]
    """What a user should know of the files, a line each."""

    @property
    def excluded(self) -> list[Row]:
        """The sessions that the tests leave out."""
        return [row for row in self.sessions.to_pylist() if row["excluded"]]


@dataclass
class _Content:
    """The lines of all files, with where each stands."""

    headers: list[tuple[Place, Header]] = field(default_factory=list)
    sessions: list[tuple[Place, SessionLine]] = field(default_factory=list)
    responses: list[tuple[Place, ResponseLine]] = field(default_factory=list)
    finishes: list[tuple[Place, FinishLine]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self) -> None:
        """Raise InputError where there are problems."""
        if not self.problems:
            return
        more = len(self.problems) - NAMED
        told = self.problems[:NAMED] + ([f"and {more:,} more lines like these"] if more > 0 else [])
        raise InputError(*told)


def import_answers(files: Files, paths: Sequence[Path], catch_right: float = CATCH_RIGHT) -> Imported:
    """Read journals, downloads and results of JATOS, and store the responses and sessions of their experiment.

    `files` are a study's results. Of several answers to one trial in one session the first counts, in the order of the
    files and their lines. A session is left out of the tests where fewer than a share of `catch_right` of its catch
    trials are answered as expected, where it has no test trial, or where its observer has a longer one.

    Raises InputError with a line per problem, which names the file and the line and never a value; nothing is stored then.
    """
    lines = _Content()
    for path in paths:
        _read(path, lines)
    lines.refuse()
    experiment_id = _experiment(files, lines)
    trials = {
        (row["list"], row["trial_id"]): row for row in read_table(files, experiment_id, TRIALS).to_pylist()
    }
    sessions = _sessions(lines, {number for number, _ in trials})
    answers, repeated, conflicts = _answers(lines, sessions, trials)
    lines.refuse()
    if rehearsed := sum(name.startswith(PREFIX) for name in sessions):
        lines.notes.append(f"{rehearsed:,} sessions are simulated")
    found = Imported(
        experiment_id,
        _session_rows(experiment_id, lines, sessions, answers, trials, catch_right),
        _response_rows(experiment_id, sessions, answers),
        repeated,
        conflicts,
        tuple(lines.notes),
    )
    write_table(files, experiment_id, RESPONSES, found.responses)
    write_table(files, experiment_id, SESSIONS, found.sessions)
    return found


def _read(path: Path, lines: _Content) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        lines.problems.append(f"{path}: {(error.strerror or str(error)).lower()}; name a file of answers")
        return
    *whole, last = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    first = True
    for number, text in enumerate([*whole, last], 1):
        if not text.strip():
            continue
        place = f"{path}: line {number}"
        try:
            line = parsed(text.rstrip(b"\r"))
        except BadLine as problem:
            if number > len(whole) and not first:
                lines.notes.append(f"{place}, the last one, is torn and was left out")
            else:
                lines.problems.append(f"{place}: {problem}")
            continue
        if first and not isinstance(line, Header):
            lines.problems.append(
                f"{place}: the file does not begin with a line of the kind experiment; import whole files only"
            )
            return
        first = False
        match line:
            case Header():
                lines.headers.append((place, line))
            case SessionLine():
                lines.sessions.append((place, line))
            case ResponseLine():
                lines.responses.append((place, line))
            case FinishLine():
                lines.finishes.append((place, line))
    if first and not lines.problems:
        lines.problems.append(f"{path}: holds no lines; name a file of answers")


def _experiment(files: Files, lines: _Content) -> str:
    """The experiment that all files are of."""
    place, header = lines.headers[0]
    known = experiments(files)
    if header.experiment_id not in known:
        raise InputError(
            f"{place}: experiment_id: is none of {files.root}, which holds: {', '.join(known) or 'none'}; "
            "name the study that the trials were made from"
        )
    for other, found in lines.headers:
        if found.experiment_id != header.experiment_id:
            raise InputError(
                f"{other}: experiment_id: is not that of {place}; import each experiment by itself"
            )
    return header.experiment_id


def _sessions(lines: _Content, lists: set[int]) -> dict[str, SessionLine]:
    """The first line of each session."""
    found: dict[str, tuple[Place, SessionLine]] = {}
    for place, line in lines.sessions:
        if line.list not in lists:
            lines.problems.append(f"{place}: list: the experiment has lists 1 to {max(lists)}")
            continue
        first_place, first = found.setdefault(line.session_id, (place, line))
        if (first.list, first.subject_id) != (line.list, line.subject_id):
            lines.problems.append(
                f"{place}: session_id: has another list or observer than at {first_place}; "
                "leave one of the two files out"
            )
    return {session_id: line for session_id, (_, line) in found.items()}


def _answers(
    lines: _Content, sessions: Mapping[str, SessionLine], trials: Mapping[tuple[int, str], Row]
) -> tuple[dict[tuple[str, str], ResponseLine], int, int]:
    """The first answer by session and trial, how many came again, and how many of those with another choice."""
    answers: dict[tuple[str, str], ResponseLine] = {}
    repeated = conflicts = 0
    for place, line in lines.responses:
        session = sessions.get(line.session_id)
        if session is None:
            lines.problems.append(f"{place}: session_id: no line of the kind session has it")
            continue
        trial = trials.get((session.list, line.trial_id))
        if trial is None:
            lines.problems.append(f"{place}: trial_id: is none of the experiment")
            continue
        if problem := _contradiction(line, trial):
            lines.problems.append(f"{place}: {problem}")
            continue
        first = answers.setdefault((line.session_id, line.trial_id), line)
        if first is not line:
            same = first.choice == line.choice
            repeated, conflicts = repeated + same, conflicts + (not same)
    return answers, repeated, conflicts


def _contradiction(line: ResponseLine, trial: Row) -> str | None:
    """What of an answer cannot be so in its trial."""
    if line.position != trial["position"]:
        return "position: is not that of the trial in the session's list"
    if (line.choice == trial["left"]) != (line.side == "left"):
        return "choice: is not the option on the side that was chosen"
    return None


def _response_rows(
    experiment_id: str,
    sessions: Mapping[str, SessionLine],
    answers: Mapping[tuple[str, str], ResponseLine],
) -> pa.Table:
    rows = [
        {
            "experiment_id": experiment_id,
            "subject_id": sessions[line.session_id].subject_id,
            "list": sessions[line.session_id].list,
            "response_time": line.response_time_ms / 1000,
            "received": _plain(line.received),
            **line.model_dump(include=set(SCHEMAS[RESPONSES].names) - {"received"}),
        }
        for line in answers.values()
    ]
    rows.sort(key=lambda row: (row["session_id"], row["position"]))
    return pa.Table.from_pylist(rows, schema=SCHEMAS[RESPONSES])


def _session_rows(
    experiment_id: str,
    lines: _Content,
    sessions: Mapping[str, SessionLine],
    answers: Mapping[tuple[str, str], ResponseLine],
    trials: Mapping[tuple[int, str], Row],
    catch_right: float,
) -> pa.Table:
    finished: dict[str, datetime] = {}
    for _, line in lines.finishes:
        finished.setdefault(line.session_id, line.finished)
    rows: dict[str, Row] = {
        session_id: {
            "experiment_id": experiment_id,
            "session_id": session_id,
            "subject_id": line.subject_id,
            "list": line.list,
            "consented": _plain(line.consented),
            "started": _plain(line.started),
            "finished": _plain(finished.get(session_id)),
            **dict.fromkeys(("n_test", "n_catch", "n_catch_right"), 0),
        }
        for session_id, line in sorted(sessions.items())
    }
    for (session_id, trial_id), answer in answers.items():
        trial, row = trials[sessions[session_id].list, trial_id], rows[session_id]
        if trial["trial_type"] != "practice":
            row[f"n_{trial['trial_type']}"] += 1
        row["n_catch_right"] += answer.choice == trial["expected"]
    longest = _longest(rows.values())
    for row in rows.values():
        row["reason"] = "; ".join(_reasons(row, longest[row["subject_id"]], catch_right))
        row["excluded"] = row["reason"] != ""
    return pa.Table.from_pylist(list(rows.values()), schema=SCHEMAS[SESSIONS])


def _longest(rows: Iterable[Row]) -> dict[str, str]:
    """Of each observer, the session with the most test trials; of those the first."""
    ordered = sorted(rows, key=lambda row: (row["n_test"], -row["started"].timestamp(), row["session_id"]))
    return {row["subject_id"]: row["session_id"] for row in ordered}


def _reasons(row: Row, longest: str, catch_right: float) -> Iterator[str]:
    """Why a session is left out, if it is."""
    # Rounded, as 0.56 * 25 is a little more than 14.
    if row["n_catch_right"] < round(catch_right * row["n_catch"], 9):
        yield (
            f"{row['n_catch_right']} of {row['n_catch']} catch trials right, "
            f"which is less than {100 * catch_right:g} %"
        )
    if not row["n_test"]:
        yield "no test trial answered"
    elif row["session_id"] != longest:
        yield f"its observer has a longer session, {longest}"


def _plain(moment: datetime | None) -> datetime | None:
    """A moment in UTC as the tables have it: without a zone."""
    return None if moment is None else moment.replace(tzinfo=None)
