"""The MLflow server of a cluster's head, really run: it is killed, its head is lost, and its records are still there."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweep.errors import WorkError
from sweep.storage.files import Files
from tests.tracking.harness import answers, free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
SCRIPT = Path(__file__).parents[2] / "infra" / "mlflow_server.py"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """A free port, for a head whose home folder is the test's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return free_port()


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def do(*arguments: object) -> None:
    done = script(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def keeper(home: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((home / "mlflow" / "keeper.json").read_text())
    return found


def epochs_in_copy(bucket: str, run: str) -> list[float]:
    """What the copy in the bucket holds of the metric `loss`."""
    try:
        content = Files(f"{bucket}/mlflow").read("mlflow.db")
    except WorkError:
        return []
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(content)
        rows = database.execute(
            "select value from metrics where run_uuid = ? and key = 'loss' order by step", [run]
        ).fetchall()
    return [value for (value,) in rows]


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_records_outlive_the_server_and_the_head(bucket: str, port: int, tmp_path: Path) -> None:
    start = ("start", "--keep", f"{bucket}/mlflow", "--every", 1, "--port", port)
    do(*start)
    client = MlflowClient(f"http://127.0.0.1:{port}")
    run = client.create_run(client.create_experiment("study")).info.run_id
    client.log_metric(run, "loss", 0.5, step=0)
    client.log_text(run, "a table", "tables.txt")
    assert Files(f"{bucket}/mlflow").names(f"artifacts/1/{run}/artifacts") == ["tables.txt"]

    first = keeper(tmp_path)
    do(*start)  # as a second `ray up` does
    assert keeper(tmp_path) == first

    os.killpg(first["server"], signal.SIGKILL)
    until(lambda: keeper(tmp_path)["server"] != first["server"] and answers(port))
    assert keeper(tmp_path)["process"] == first["process"]
    client.log_metric(run, "loss", 0.25, step=1)

    time.sleep(
        6
    )  # a server that has answered once is given up after three looks, a new one after three minutes
    os.killpg(keeper(tmp_path)["server"], signal.SIGSTOP)  # it is there, and does not answer
    stopped = keeper(tmp_path)["server"]
    until(lambda: keeper(tmp_path)["server"] != stopped and answers(port))
    until(lambda: epochs_in_copy(bucket, run) == [0.5, 0.25])

    os.kill(first["process"], signal.SIGKILL)
    os.killpg(keeper(tmp_path)["server"], signal.SIGKILL)
    shutil.rmtree(tmp_path / "mlflow")
    do(*start)
    assert [one.value for one in client.get_metric_history(run, "loss")] == [0.5, 0.25]
    assert [one.path for one in client.list_artifacts(run)] == ["tables.txt"]

    client.log_metric(run, "loss", 0.125, step=2)
    do("stop")
    assert not answers(port)
    assert epochs_in_copy(bucket, run) == [0.5, 0.25, 0.125]


def test_a_bucket_out_of_reach_begins_no_empty_database(bucket: str, port: int, tmp_path: Path) -> None:
    done = script("start", "--keep", "s3://no-such-bucket/mlflow", "--port", port)
    assert done.returncode == 1
    assert "NO_SUCH_BUCKET" in done.stderr
    assert not (tmp_path / "mlflow" / "mlflow.db").exists()

    Files(f"{bucket}/mlflow").write("mlflow.db", b"SQLite format 3\0 and nothing more")
    done = script("start", "--keep", f"{bucket}/mlflow", "--port", port)
    assert done.returncode == 1
    assert "the database is damaged" in done.stderr
    assert not (tmp_path / "mlflow" / "mlflow.db").exists()


def test_a_bucket_that_was_not_filled_in_is_one_line(port: int) -> None:
    done = script("start", "--keep", "s3://BUCKET/mlflow", "--port", port)
    assert done.returncode == 2
    assert done.stderr == (
        "mlflow_server: --keep s3://BUCKET/mlflow: write the name of your bucket in place of BUCKET, "
        "in the cluster file\n"
    )


def test_a_port_that_is_taken_is_told(port: int, tmp_path: Path) -> None:
    (tmp_path / "health").touch()
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), str(port)],
        stderr=subprocess.DEVNULL,
    ) as other:
        until(lambda: answers(port))
        done = script("start", "--port", port)
        other.terminate()
    assert done.returncode == 1
    assert f"another server answers on port {port}" in done.stderr
