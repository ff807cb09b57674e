"""What faults are made with, and how their results are compared: real runs, real kills."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sweep.plan import Plan
from sweep.stages import STAGES, all_units, rows_of_tables
from sweep.storage.index import INDEX
from sweep.storage.store import Store
from tests.studies import SWEEP, SmallStudy

RUN_SECONDS = 900
"""What a run may take on a busy machine; on an idle one it takes half a minute."""
FAULTS = Path(__file__).parent / "faults"
TABLES = tuple(table for stage in STAGES.values() for table in stage.tables)


@dataclass(frozen=True)
class Fault:
    """A fault at a rename; see faults/sitecustomize.py."""

    match: str
    action: str
    marker: Path
    times: int = 1

    @property
    def met(self) -> int:
        """How often it has happened."""
        return sum(Path(f"{self.marker}.{turn}").exists() for turn in range(self.times))


@contextmanager
def running(
    study: SmallStudy,
    *arguments: str,
    faults: Sequence[Fault] = (),
    environment: dict[str, str] | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """`sweep run` in a session of its own, as a terminal would have it; it does not outlive the block."""
    environment = {**os.environ, **(environment or {})}
    if faults:
        path = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{FAULTS}{os.pathsep}{path}" if path else str(FAULTS)
        described = [{**vars(fault), "marker": str(fault.marker)} for fault in faults]
        environment["SWEEP_TEST_FAULTS"] = json.dumps(described)
    folder = study.path.parent
    with (
        (folder / "run.log").open("a") as log,
        subprocess.Popen(
            [SWEEP, "run", study.path.name, *arguments],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=environment,
        ) as process,
    ):
        try:
            yield process
        finally:
            kill(process.pid)


def run(study: SmallStudy, *arguments: str, code: int = 0, **options: Any) -> str:
    """What a whole run tells; asserts that it ends with this exit code."""
    log = study.path.parent / "run.log"
    log.write_text("")
    with running(study, *arguments, **options) as process:
        ended = process.wait(RUN_SECONDS)
    told = log.read_text()
    assert ended == code, told
    assert "Traceback" not in told
    return told


def descendants(process: int) -> Iterator[int]:
    """Ids of all processes that `process` has started, directly or not."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(folder.name))
    waiting = list(parents.get(process, []))
    while waiting:
        child = waiting.pop()
        yield child
        waiting += parents.get(child, [])


def named(process: int, title: str) -> list[int]:
    """Descendants of `process` whose title matches `title`, as Ray sets titles of its workers."""
    found = []
    for child in descendants(process):
        with suppress(OSError):
            if re.match(title, Path(f"/proc/{child}/cmdline").read_bytes().decode()):
                found.append(child)
    return sorted(found)


def kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def wait_until(condition: Any, seconds: float, process: "subprocess.Popen[str] | None" = None) -> bool:
    """Whether `condition()` becomes true within so many seconds, and while `process` runs."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        if process is not None and process.poll() is not None:
            return bool(condition())
        time.sleep(0.05)
    return False


def stored(root: Path) -> int:
    """How many units there are."""
    return sum(1 for table in TABLES for _ in root.glob(f"{table}/*.parquet"))


def flipped(content: bytes) -> bytes:
    """`content` with one bit in its middle changed."""
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def contents(root: Path) -> dict[str, Any]:
    """Every unit's file, byte for byte; of the models all but the name of the MLflow run."""
    found: dict[str, Any] = {}
    for table in TABLES:
        for path in indexed(root, table):
            name = f"{table}/{path.name}"
            if table == "models":
                found[name] = pq.read_table(path).drop_columns("mlflow_run_id").to_pylist()
            else:
                found[name] = path.read_bytes()
    for path in sorted(root.glob("weights/*")):
        found[f"weights/{path.name}"] = path.read_bytes()
    return found


def indexed(root: Path, table: str) -> list[Path]:
    """The files of a table that the study consists of; others are of runs in which something was missing."""
    named = pq.read_table(root / INDEX)["file"].to_pylist()
    return [path for path in sorted(root.glob(f"{table}/*.parquet")) if f"{table}/{path.name}" in named]


def assert_whole(plan: Plan, root: Path) -> None:
    """A finished study's results: every planned unit once and undamaged, no other file, nothing temporary."""
    store = Store(str(root))
    units = all_units(plan)
    assert sorted(unit.path for unit in units) == sorted(
        str(path.relative_to(root)) for table in TABLES for path in indexed(root, table)
    )
    assert [problem for problem in map(store.damage, units) if problem] == []
    others = {
        "weights",
        "checkpoints",
        "figures",
        "report",
        "failures",
        ".stages",
        "study.yaml",
        "index.parquet",
        ".checksums.json",
        ".tracking.json",
    }
    assert {path.name for path in root.iterdir()} <= {*TABLES, *others}
    for folder, suffix in (
        *((table, ".parquet") for table in rows_of_tables(plan)),
        ("weights", ".npz"),
        (".stages", ".json"),
    ):
        assert {path.suffix for path in (root / folder).iterdir() if path.is_file()} == {suffix}
    for table, key in KEYS.items():
        rows = pq.read_table(list(map(str, indexed(root, table)))).select(key)
        assert rows.num_rows == rows.group_by(key).aggregate([]).num_rows == rows_of_tables(plan)[table]


KEYS = {
    "images": ["image_id"],
    "features": ["pretraining", "image_id"],
    "epochs": ["model_id", "epoch"],
    "models": ["model_id"],
    "predictions": ["model_id", "image_id", "rank"],
    "relevance": ["model_id", "image_id"],
    "similarity": ["image_id", "model_a", "model_b"],
    "masked": ["source_id", "destination_id", "percent", "image_id"],
}
"""Columns that together name a row of each table."""
