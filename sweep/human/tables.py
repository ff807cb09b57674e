"""Where an experiment's tables are stored, and how they are read and written.

An experiment lies under `<results>/<study>/human/<experiment_id>/`. Its trials are made once. Its responses and sessions
are made again by every import. The columns of all three stand in `sweep.storage.schemas`.
"""

from collections.abc import Sequence

import pyarrow as pa

from sweep.errors import InputError, WorkError
from sweep.storage.files import Files
from sweep.storage.schemas import SCHEMAS
from sweep.storage.sealing import BrokenSeal, opened, sealed

TRIALS, RESPONSES, SESSIONS = "human_trials", "human_responses", "human_sessions"
"""The tables of an experiment, as `sweep.storage.schemas` names them."""
FOLDER = "human"
"""Folder of all experiments, relative to the study's results."""
FILES = {TRIALS: "trials.parquet", RESPONSES: "responses.parquet", SESSIONS: "sessions.parquet"}
"""File of each table, relative to the experiment's folder."""


def folder_of(experiment_id: str) -> str:
    """Folder of an experiment, relative to the study's results."""
    return f"{FOLDER}/{experiment_id}"


def experiments(files: Files) -> list[str]:
    """Ids of the experiments that a study's results hold, in alphabetical order."""
    return Files(f"{files.root}/{FOLDER}", files.patience).folders_with(FILES[TRIALS])


def answered(files: Files) -> list[str]:
    """Ids of the experiments that have answers, in alphabetical order."""
    return Files(f"{files.root}/{FOLDER}", files.patience).folders_with(FILES[SESSIONS])


def chosen_experiment(files: Files, experiment_id: str | None) -> str:
    """The experiment that is named, or the only one. Raises InputError naming those that there are."""
    known = experiments(files)
    if not known:
        raise InputError(f"{files.root} holds no experiment; make one with: sweep human trials")
    return _one_of(files, known, experiment_id)


def answered_experiment(files: Files, experiment_id: str | None) -> str:
    """The same of the experiments with answers."""
    known = answered(files)
    if not known:
        raise InputError(f"{files.root} holds no answers of people; import some with: sweep human import")
    return _one_of(files, known, experiment_id)


def _one_of(files: Files, known: Sequence[str], experiment_id: str | None) -> str:
    if experiment_id is None:
        if len(known) > 1:
            raise InputError(
                f"{files.root} holds {len(known)} experiments; name one with --experiment: {', '.join(known)}"
            )
        return known[0]
    if experiment_id not in known:
        raise InputError(f"--experiment {experiment_id}: there is no such; there are: {', '.join(known)}")
    return experiment_id


def write_table(files: Files, experiment_id: str, table: str, rows: pa.Table) -> str:
    """Store a table of an experiment whole; returns its path, relative to the study's results."""
    path = f"{folder_of(experiment_id)}/{FILES[table]}"
    files.write(path, sealed(rows.cast(SCHEMAS[table]), path))
    return path


def read_table(
    files: Files, experiment_id: str, table: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """A table of an experiment. Raises WorkError where it is missing or damaged."""
    path = f"{folder_of(experiment_id)}/{FILES[table]}"
    try:
        file = opened(files.read(path), path, table)
    except BrokenSeal as problem:
        raise WorkError(f"{files.root}/{path} {problem}; make it again") from None
    return file.read(columns=None if columns is None else list(columns))
