"""The tables of an experiment: found by the queries wherever they lie, and checked like every other file."""

from pathlib import Path

import numpy as np
import pytest

from sweep.analysis.queries import run_query
from sweep.errors import InputError, WorkError
from sweep.human.importing import import_answers
from sweep.human.lists import Design
from sweep.human.simulating import Observers, journal, text
from sweep.human.tables import (
    SESSIONS,
    TRIALS,
    answered_experiment,
    chosen_experiment,
    read_table,
    write_table,
)
from sweep.human.trials import make_trials
from sweep.runs.health import set_damaged_aside
from sweep.storage.files import Files
from sweep.storage.index import INDEX, index_of
from tests.human.conftest import CONDITIONS, Simulated


def test_tables_in_an_object_store_are_those_of_a_folder(
    study: Simulated, bucket: str, tmp_path: Path
) -> None:
    made = make_trials(study.plan, study.store, CONDITIONS, Design(2, 2, 2))
    (tmp_path / "journal.jsonl").write_text(text(journal(made.rows, 6, Observers(0.6))))
    answers = {}
    for root in (f"{bucket}/small", str(tmp_path / "small")):
        files = Files(root)
        files.write(INDEX, index_of([], {}))
        write_table(files, made.experiment_id, TRIALS, made.rows)
        import_answers(files, [tmp_path / "journal.jsonl"])
        answers[root] = run_query("human_preference", root).to_pylist()
    first, second = answers.values()
    assert len(first) == 3
    assert [row["p"] for row in first] == pytest.approx([row["p"] for row in second], rel=1e-9)


def test_an_experiment_is_chosen_by_name_where_there_are_several(tmp_path: Path, study: Simulated) -> None:
    files = Files(str(tmp_path))
    with pytest.raises(InputError, match="holds no experiment; make one with: sweep human trials"):
        chosen_experiment(files, None)
    rows = make_trials(study.plan, study.store, CONDITIONS, Design(2, 2, 2)).rows
    write_table(files, "one", TRIALS, rows)
    assert chosen_experiment(files, None) == "one"
    with pytest.raises(InputError, match="holds no answers of people; import some with: sweep human import"):
        answered_experiment(files, None)
    write_table(files, "two", TRIALS, rows)
    assert chosen_experiment(files, "two") == "two"
    with pytest.raises(InputError, match="holds 2 experiments; name one with --experiment: one, two"):
        chosen_experiment(files, None)
    with pytest.raises(InputError, match="--experiment three: there is no such; there are: one, two"):
        chosen_experiment(files, "three")


def test_a_damaged_table_is_told_and_set_aside(study: Simulated, tmp_path: Path) -> None:
    made = make_trials(study.plan, study.store, CONDITIONS, Design(2, 3, 1))
    (tmp_path / "journal.jsonl").write_text(text(journal(made.rows, 2, Observers(0.6))))
    import_answers(study.store.files, [tmp_path / "journal.jsonl"])
    path = Path(study.store.root, "human", made.experiment_id, "sessions.parquet")
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    content[200] ^= 1
    path.write_bytes(content.tobytes())
    with pytest.raises(WorkError, match=r"sessions\.parquet does not match its checksum; make it again"):
        read_table(study.store.files, made.experiment_id, SESSIONS)
    (said,) = set_damaged_aside(study.plan, study.store)
    assert said == f"{path} does not match its checksum; make it again"
    assert not path.exists()
