"""What MLflow holds after a study: in SQLite, over HTTP, through an outage, and with no server at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from sweep.errors import InputError, WorkError
from sweep.numerics.readout import Readout
from sweep.stages import finetune, key_of_study, rows_of_tables
from sweep.storage.files import Files
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
from tests.report.simulated import readout
from tests.tracking.harness import (
    Study,
    assert_complete,
    files_of,
    free_port,
    runs_of,
    server,
    sqlite,
    tracked,
)


def test_a_study_and_its_models_are_recorded_whole(study: Study) -> None:
    follower = Tracker(study.plan, study.results)
    planned = study.plan.path.read_bytes()
    study.plan.path.write_text("name: edited-meanwhile\n")
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
    assert content["study/study.yaml"] == planned == study.plan.source
    assert "python" in json.loads(content["environment.json"])
    tables = json.loads(content["tables.json"])
    assert tables["masked"]["rows"] == rows_of_tables(study.plan)["masked"]
    for run in children.values():
        files = files_of(client, run.info.run_id)
        assert {name for name in files if not name.startswith("model/")} == {"readout.npz", "maps.png"}
        assert files["model/artifacts/readout.npz"] == files["readout.npz"]
        assert not [name for name in files if name.endswith((".pkl", ".pickle"))]
        assert files["maps.png"].startswith(b"\x89PNG")


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
        assert len(client.list_artifacts(run_id)) == (3 if position == 0 else 0)
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
    with pytest.raises(
        InputError, match=r"^run 0{32}: MLflow at .*: it does not answer \(Connection refused\)"
    ):
        load_readout("0" * 32, f"http://127.0.0.1:{free_port()}")


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
        loaded = load_readout(run_id)
        assert isinstance(loaded, Readout)
        assert loaded.kernel.shape == (7, len(models[4].classes))


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


def test_an_experiment_that_is_deleted_while_the_study_runs_is_named_too(study: Study) -> None:
    follower = Tracker(study.plan, study.results)
    client = MlflowClient(sqlite(study))
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    assert study.train(follower, study.plan.models) == {}
    (line,) = follower.problems()
    assert f"mlflow experiments restore --experiment-id {experiment.experiment_id}" in line
    client.restore_experiment(experiment.experiment_id)
    study.finish(follower)
    assert follower.problems() == []
    assert_complete(study, sqlite(study))


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
