"""What the tests of tracking share: a finished study on disk, what MLflow holds of it, and a real server."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sweep.analysis.provenance import table_identities
from sweep.plan import Model, Plan
from sweep.report.panels import model_files
from sweep.stages import finetune
from sweep.storage.store import Store
from sweep.tracking import FINISHED, Tracker


@dataclass
class Study:
    """A finished study on disk, and what the pipeline would tell a tracker about it."""

    plan: Plan
    store: Store
    results: str

    noted: dict[str, str] = field(default_factory=dict)
    """Run that the table `models` names, by model."""

    def history(self, model_id: str) -> tuple[list[dict[str, float]], dict[str, float], str | None]:
        rows = self.store.read([finetune.epoch_units(self.plan)[model_id]]).to_pylist()
        return rows, {"train_accuracy": 1.0, "val_accuracy": 0.9}, self.noted.get(model_id)

    def train(self, follower: Tracker, models: Sequence[Model]) -> dict[str, str]:
        """Tell of `models` as their finetuning does, an epoch at a time."""
        runs = follower.start_models(models)
        for model_id, run_id in runs.items():
            rows, accuracies, _ = self.history(model_id)
            for row in rows:
                follower.epochs(run_id, [row], 1)
            follower.finish_model(run_id, accuracies, len(rows))
        return runs

    def finish(self, follower: Tracker) -> None:
        follower.catch_up(self.plan.models, self.history)
        models = self.store.read(finetune.model_units(self.plan).values()).to_pylist()
        digests = {row["model_id"]: row["weights_sha256"] for row in models}
        follower.attach_to_models(lambda model: model_files(self.plan, self.store, model), digests)
        follower.finish_study({"report/index.html": b"page"}, table_identities(self.plan, self.store))
        follower.close(FINISHED)


def runs_of(uri: str) -> tuple[Any, dict[str, Any]]:
    """The study's run, and its models' runs by name; there is exactly one each."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert len({run.info.run_name for run in children}) == len(children)
    return parent, {run.info.run_name: run for run in children}


def assert_complete(study: Study, uri: str) -> None:
    """One finished run per model, with every epoch exactly once and the tables' values."""
    client = MlflowClient(uri)
    parent, children = runs_of(uri)
    assert parent.info.status == FINISHED
    assert set(children) == set(study.plan.model)
    for model_id, run in children.items():
        assert run.info.status == FINISHED
        assert run.data.params["task"] == study.plan.model[model_id].cell.task
        rows, _, _ = study.history(model_id)
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            found = client.get_metric_history(run.info.run_id, name)
            assert sorted((metric.step, metric.value) for metric in found) == [
                (row["epoch"], row[name]) for row in rows
            ]
        assert run.data.metrics["final_val_accuracy"] == 0.9


def sqlite(study: Study) -> str:
    return f"sqlite:///{study.results}/mlflow.db"


def files_of(client: MlflowClient, run_id: str, folder: str = "") -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            found |= files_of(client, run_id, item.path)
        else:
            found[item.path] = Path(client.download_artifacts(run_id, item.path)).read_bytes()
    return found


def free_port() -> int:
    """A port that stays free: the system gives those above 32767 to whoever asks for any, Ray takes some below 20000."""
    for port in range(20_000 + os.getpid() % 10_000, 32_768):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def answers(port: int) -> bool:
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        asking.request("GET", "/health")
        return asking.getresponse().status == 200
    except OSError:
        return False
    finally:
        asking.close()


@contextmanager
def server(folder: Path, port: int) -> Iterator[str]:
    """A real `mlflow server` on loopback, which keeps its runs in `folder`."""
    folder.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    uri = f"http://127.0.0.1:{port}"
    with (folder / "log").open("ab") as log:
        quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=quiet)
    try:
        while not answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        yield uri
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def tracked(uri: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield
