"""What MLflow holds after a study: in SQLite, over HTTP, through an outage, and with no server at all."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from sweep.analysis.provenance import table_identities
from sweep.errors import InputError, WorkError
from sweep.numerics.readout import Readout
from sweep.plan import Model, Plan, make_plan
from sweep.report.panels import model_files
from sweep.stages import finetune, key_of_study, rows_of_tables
from sweep.storage.files import Files
from sweep.storage.store import Store
from sweep.tracking import (
    FINISHED,
    KILLED,
    Tracker,
    connection,
    load_readout,
    log_verification,
    study_runs,
    tracker,
)
from sweep.tracking.identity import results_id
from tests.report.simulated import readout, simulate
from tests.studies import write_small_study


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


@pytest.fixture
def study(tmp_path: Path) -> Study:
    plan = make_plan(write_small_study(tmp_path).path)
    store = Store(str(tmp_path / "results" / "small"))
    simulate(plan, store)
    return Study(plan, store, str(tmp_path / "results"))


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


def test_a_study_and_its_models_are_recorded_whole(study: Study) -> None:
    follower = Tracker(study.plan, study.results)
    study.train(follower, study.plan.models)
    follower.stage_done("finetune", 16, 12.5)
    follower.stage_done("features", 0, 3.0)
    study.finish(follower)
    assert follower.problems() == []
    assert_complete(study, sqlite(study))
    client = MlflowClient(sqlite(study))
    parent, children = runs_of(sqlite(study))
    assert parent.data.metrics == {"stage_seconds.finetune": 12.5}
    assert parent.data.tags["sweep.study_key"] == key_of_study(study.plan)
    (images,) = parent.inputs.dataset_inputs
    assert images.dataset.digest == study.plan.images.key
    assert json.loads(images.dataset.profile)["num_rows"] == 30
    content = files_of(client, parent.info.run_id)
    assert content["report/index.html"] == b"page"
    assert content["study/study.yaml"] == study.plan.path.read_bytes()
    assert "python" in json.loads(content["environment.json"])
    tables = json.loads(content["tables.json"])
    assert tables["masked"]["rows"] == rows_of_tables(study.plan)["masked"]
    for run in children.values():
        files = files_of(client, run.info.run_id)
        assert set(files) == {"readout.npz", "maps.png"}
        assert files["maps.png"].startswith(b"\x89PNG")


def files_of(client: MlflowClient, run_id: str, folder: str = "") -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            found |= files_of(client, run_id, item.path)
        else:
            found[item.path] = Path(client.download_artifacts(run_id, item.path)).read_bytes()
    return found


def test_a_resumed_study_goes_on_in_the_same_runs(study: Study) -> None:
    first = Tracker(study.plan, study.results)
    study.train(first, study.plan.models[:3])
    (half,) = first.start_models([study.plan.models[3]]).values()
    first.epochs(half, study.history(study.plan.models[3].id)[0][:2], 1)
    first.close(KILLED)
    parent, children = runs_of(sqlite(study))
    assert [parent.info.status, children[study.plan.models[3].id].info.status] == [KILLED, KILLED]

    second = Tracker(study.plan, study.results)
    assert study.train(second, study.plan.models[3:])[study.plan.models[3].id] == half
    study.finish(second)
    assert_complete(study, sqlite(study))
    resumed, _ = runs_of(sqlite(study))
    assert resumed.info.run_id == parent.info.run_id
    assert len(resumed.inputs.dataset_inputs) == 1


def test_a_driver_that_vanished_leaves_no_run_running_and_nothing_twice(study: Study) -> None:
    study.train(Tracker(study.plan, study.results), study.plan.models)  # never closed, never caught up
    again = Tracker(study.plan, study.results)
    study.finish(again)
    assert_complete(study, sqlite(study))


def test_a_readout_comes_back_and_predicts_the_same(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "RUNS_WITH_FILES", 1)
    follower = Tracker(study.plan, study.results)
    study.finish(follower)
    _, children = runs_of(sqlite(study))
    features = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    client = MlflowClient(sqlite(study))
    for position, model in enumerate(
        study.plan.models
    ):  # the first from its artifacts, the others from the store
        run_id = children[model.id].info.run_id
        assert len(client.list_artifacts(run_id)) == (2 if position == 0 else 0)
        loaded = load_readout(run_id, sqlite(study))
        expected = Readout.from_bytes(readout(model.id, len(model.classes))).logits(features)
        np.testing.assert_array_equal(loaded.logits(features), expected)


def test_a_readout_that_is_not_what_was_recorded_is_refused(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "RUNS_WITH_FILES", 0)
    study.finish(Tracker(study.plan, study.results))
    parent, children = runs_of(sqlite(study))
    model = study.plan.models[0]
    study.store.write_file(f"weights/{model.id}.{model.key}.npz", readout("another", len(model.classes)))
    with pytest.raises(WorkError, match="recorded was"):
        load_readout(children[model.id].info.run_id, sqlite(study))
    with pytest.raises(InputError, match="no finished model's run"):
        load_readout(parent.info.run_id, sqlite(study))
    with pytest.raises(InputError, match="not found"):
        load_readout("0" * 32, sqlite(study))
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
        load_readout("0" * 32)


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
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
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


@pytest.mark.chaos
def test_an_outage_in_the_middle_costs_nothing_but_time(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(connection, "PATIENCE", 0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port, models = free_port(), study.plan.models
    with server(tmp_path / "mlflow", port) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        follower = Tracker(study.plan, study.results)
        study.train(follower, models[:2])
        (third,) = follower.start_models([models[2]]).values()
        rows, accuracies, _ = study.history(models[2].id)
        follower.epochs(third, rows[:1], 1)
    follower.epochs(third, rows[1:3], 1)  # lost
    follower.finish_model(third, accuracies, len(rows))
    assert study.train(follower, models[3:5]) == {}
    assert follower.problems() != []
    with server(tmp_path / "mlflow", port):
        study.train(follower, models[5:6])
        study.finish(follower)
        assert follower.problems() == []
        assert_complete(study, uri)
        run_id = runs_of(uri)[1][models[4].id].info.run_id
        assert load_readout(run_id).kernel.shape == (7, len(models[4].classes))


def test_a_study_without_a_server_is_told_so_and_caught_up_by_the_next_run(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "INSISTENCE", (0.0, 0.0))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    alone = Tracker(study.plan, study.results)
    assert study.train(alone, study.plan.models) == {}
    study.finish(alone)
    (line,) = alone.problems()
    assert "its runs have a gap: it does not answer (Connection refused); start it" in line

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    study.finish(Tracker(study.plan, study.results))
    assert_complete(study, sqlite(study))


def test_more_epochs_than_a_request_may_hold_are_sent_in_parts(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_runs, "BATCH", 3)
    study.finish(Tracker(study.plan, study.results))
    assert_complete(study, sqlite(study))


@contextmanager
def tracked(uri: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield


def test_two_results_of_one_study_share_no_run_and_each_finds_its_own_again(
    study: Study, tmp_path: Path
) -> None:
    other = Study(study.plan, study.store, str(tmp_path / "other"))
    uri = f"sqlite:///{tmp_path}/shared.db"
    with tracked(uri):
        for each in (study, other, study):
            follower = Tracker(each.plan, each.results)
            each.finish(follower)
            assert follower.problems() == []
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len({run.data.tags["sweep.results"] for run in parents}) == len(parents) == 2
    for parent in parents:
        own = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert sorted(run.info.run_name for run in own) == sorted(study.plan.model)
        assert {run.info.status for run in [parent, *own]} == {FINISHED}


def test_results_that_are_moved_keep_their_id_and_a_copy_gets_its_own(tmp_path: Path) -> None:
    first = results_id(Files(str(tmp_path / "first")))
    assert results_id(Files(str(tmp_path / "first"))) == first
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    assert results_id(Files(str(tmp_path / "copy"))) != first
    (tmp_path / "first").rename(tmp_path / "moved")
    assert results_id(Files(str(tmp_path / "moved"))) == first
    # What comes to lie at the old place later is the copy, and not the original.
    shutil.copytree(tmp_path / "moved", tmp_path / "first")
    assert results_id(Files(str(tmp_path / "moved"))) == first
    assert results_id(Files(str(tmp_path / "first"))) != first


def test_a_model_that_is_not_stored_costs_the_others_no_files(study: Study) -> None:
    follower = Tracker(study.plan, study.results)
    lost, *others = study.plan.models
    study.train(follower, others)
    follower.start_models([lost])
    rows = study.store.read(finetune.model_units(study.plan).values()).to_pylist()
    digests = {row["model_id"]: row["weights_sha256"] for row in rows if row["model_id"] != lost.id}
    follower.attach_to_models(lambda model: {"a.txt": model.id.encode()}, digests)
    assert follower.problems() == []
    _, children = runs_of(sqlite(study))
    with_files = {name for name, run in children.items() if study_runs.FILES_TAG in run.data.tags}
    assert with_files == {model.id for model in others}


def test_a_run_is_closed_however_recent_a_failure_is(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = Tracker(study.plan, study.results)
    client: Any = follower._runs._client
    with monkeypatch.context() as patch:
        patch.setattr(client, "log_batch", lambda *_, **__: 1 / 0)
        follower.stage_done("features", 1, 1.0)
    assert follower.problems() != []
    follower.close(KILLED)
    parent, _ = runs_of(sqlite(study))
    assert parent.info.status == KILLED


def test_results_that_cannot_be_read_are_not_put_down_to_mlflow(study: Study) -> None:
    def history(model_id: str) -> Any:
        raise WorkError(f"{model_id}: damaged")

    follower = Tracker(study.plan, study.results)
    with pytest.raises(WorkError, match="damaged"):
        follower.catch_up(study.plan.models, history)
    assert follower.problems() == []


def test_a_verification_goes_into_the_run_of_its_own_results(study: Study, tmp_path: Path) -> None:
    other = Study(study.plan, study.store, str(tmp_path / "other"))
    uri = f"sqlite:///{tmp_path}/shared.db"
    with tracked(uri):
        for each in (study, other):
            Tracker(each.plan, each.results).close(FINISHED)
        assert log_verification(study.plan, study.results, {"maps": 1.0}) is None
        nobody = log_verification(study.plan, str(tmp_path / "nobody"), {"maps": 1.0})
    assert nobody == "no run of these results of the study small; run the study again"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    told = {
        run.data.tags["sweep.results"]: "verification.maps" in run.data.metrics
        for run in client.search_runs([experiment.experiment_id])
    }
    own = results_id(Files(f"{study.results}/small"))
    assert told == {key: key == own for key in told}
    assert len(told) == 2


def test_a_study_ends_finished_where_only_its_files_are_refused(study: Study) -> None:
    closed = Path(study.results) / "mlflow-artifacts"
    closed.write_text("not a folder")
    follower = Tracker(study.plan, study.results)
    study.train(follower, study.plan.models)
    study.finish(follower)
    parent, children = runs_of(sqlite(study))
    assert {run.info.status for run in [parent, *children.values()]} == {FINISHED}
    (line,) = follower.problems()
    first = ", ".join(model.id for model in study.plan.models[:5])
    assert f"runs lack their files and have everything else ({first} and 4 more): " in line
    assert "Not a directory" in line or "File exists" in line


def test_an_experiment_that_was_deleted_is_named_with_the_remedy(study: Study) -> None:
    study.finish(Tracker(study.plan, study.results))
    client = MlflowClient(sqlite(study))
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    follower = Tracker(study.plan, study.results)
    follower.close(FINISHED)
    (line,) = follower.problems()
    assert f"mlflow experiments restore --experiment-id {experiment.experiment_id}" in line
    client.restore_experiment(experiment.experiment_id)
    again = Tracker(study.plan, study.results)
    study.finish(again)
    assert again.problems() == []


@pytest.mark.parametrize(
    "uri", ["nowhere://host", "file:///tmp/none", "postgresql://ann:s3cret@127.0.0.1:1/db"]
)
def test_an_address_that_mlflow_does_not_take_is_a_line_without_a_password(study: Study, uri: str) -> None:
    with tracked(uri):
        follower = Tracker(study.plan, study.results)
        follower.close(FINISHED)
        (line,) = follower.problems()
        assert len(line.splitlines()) == 1
        assert "s3cret" not in line
