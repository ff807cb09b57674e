"""Runs that were deleted, refused, made twice or left behind elsewhere: every model still gets its history, once."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Param

from sweep.plan import Model
from sweep.tracking import FINISHED, KILLED, Tracker, connection, study_runs
from tests.tracking.harness import Study, assert_complete, runs_of, sqlite, tracked


def delete_softly(study: Study, run_id: str) -> None:
    MlflowClient(sqlite(study)).delete_run(run_id)


def delete_for_good(study: Study, run_id: str) -> None:
    """As `mlflow gc` does it."""
    delete_softly(study, run_id)
    with sqlite3.connect(f"{study.results}/mlflow.db") as database:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run_id,))
    database.close()


@pytest.fixture(params=[delete_softly, delete_for_good], ids=["softly", "for good"])
def delete(request: pytest.FixtureRequest) -> Callable[[Study, str], None]:
    return request.param  # type: ignore[no-any-return]


def files_of_model(model: Model) -> dict[str, bytes]:
    return {"a.txt": model.id.encode()}


def digests(study: Study) -> dict[str, str]:
    return {model.id: "0" * 64 for model in study.plan.models}


def with_files(study: Study) -> set[str]:
    _, children = runs_of(sqlite(study))
    return {name for name, run in children.items() if study_runs.FILES_TAG in run.data.tags}


def test_a_run_that_is_deleted_while_the_study_runs_costs_nothing(
    study: Study, delete: Callable[[Study, str], None]
) -> None:
    first, second, *others = study.plan.models
    follower = Tracker(study.plan, study.results)
    study.noted = study.train(follower, [first, second])
    study.noted |= follower.start_models(others[:1])
    delete(study, study.noted[first.id])  # finished already
    delete(study, study.noted[others[0].id])  # and not yet
    study.noted |= study.train(follower, others)
    study.finish(follower)
    assert_complete(study, sqlite(study))
    (line,) = follower.problems()
    assert f"the runs that these results name are not there ({first.id}, {others[0].id})" in line
    assert "new ones hold their history" in line
    _, children = runs_of(sqlite(study))
    assert children[second.id].info.run_id == study.noted[second.id]

    again = Tracker(study.plan, study.results)
    study.finish(again)
    assert again.problems() == []  # they are there now


def test_the_run_of_the_study_is_deleted_while_it_runs(
    study: Study, delete: Callable[[Study, str], None]
) -> None:
    follower = Tracker(study.plan, study.results)
    study.train(follower, study.plan.models)
    lost, _ = runs_of(sqlite(study))
    delete(study, lost.info.run_id)
    follower.stage_done("masking", 3, 2.5)
    study.finish(follower)
    assert_complete(study, sqlite(study))
    parent, children = runs_of(sqlite(study))
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert parent.info.run_id != lost.info.run_id
    assert parent.data.metrics == {"stage_seconds.masking": 2.5}
    assert "sweep.study_key" in parent.data.tags


def test_a_run_that_is_refused_costs_its_own_model_only(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "INSISTENCE", (0.0, 60.0))  # what no waiting changes is not waited for
    odd = [study.plan.models[0], study.plan.models[3]]
    first = Tracker(study.plan, study.results)
    runs = first.start_models(study.plan.models[1:3])
    first.close(KILLED)
    client = MlflowClient(sqlite(study))
    parent, _ = runs_of(sqlite(study))
    for model in odd:
        tags = {name: value for name, value in parent.data.tags.items() if name.startswith("sweep.")}
        tags |= {study_runs.MODEL_TAG: model.key, study_runs.PARENT_TAG: parent.info.run_id}
        run = client.create_run(parent.info.experiment_id, tags=tags, run_name=model.id)
        client.log_batch(run.info.run_id, params=[Param("seed", "another")])
    follower = Tracker(study.plan, study.results)
    study.finish(follower)
    (line,) = follower.problems()
    assert f"models lack their runs ({odd[0].id}, {odd[1].id}): its run holds other parameters" in line
    assert "delete that run, and run the study again" in line
    _, children = runs_of(sqlite(study))
    finished = {name for name, run in children.items() if run.info.status == FINISHED}
    assert finished == {*study.plan.model} - {model.id for model in odd}
    assert {children[name].info.run_id for name in runs} == {*runs.values()}

    for model in odd:
        client.delete_run(children[model.id].info.run_id)
    again = Tracker(study.plan, study.results)
    study.finish(again)
    assert again.problems() == []
    assert_complete(study, sqlite(study))


def test_faults_of_many_models_in_a_row_are_the_servers_own(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "INSISTENCE", (0.0, 0.0))
    follower = Tracker(study.plan, study.results)
    client: Any = follower._runs._client
    tried: list[str] = []

    def refuse(*_: Any, run_name: str, **__: Any) -> None:
        tried.append(run_name)
        raise OSError("its disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(client, "create_run", refuse)
        patch.setattr("sweep.tracking.study_runs.StudyRuns._connect", lambda _: None)
        follower.catch_up(study.plan.models, study.history)
    (line,) = follower.problems()
    assert line.endswith("its runs have a gap: OSError: its disk is full")
    assert tried == [model.id for model in study.plan.models[:3]] * 2
    study.finish(follower)
    assert follower.problems() == []
    assert_complete(study, sqlite(study))


def test_a_fault_that_passes_is_tried_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "INSISTENCE", (0.0, 0.0))
    follower = Tracker(study.plan, study.results)
    real, once = study_runs.StudyRuns.finish, [study.plan.models[2].id]

    def stumble(runs: study_runs.StudyRuns, run_id: str, accuracies: Any) -> None:
        if once and runs.of[study.plan.model[once[0]].key] == run_id:
            once.clear()
            raise OSError("a bad moment")
        real(runs, run_id, accuracies)

    with monkeypatch.context() as patch:
        patch.setattr(study_runs.StudyRuns, "finish", stumble)
        study.finish(follower)
    assert once == []
    assert follower.problems() == []
    assert_complete(study, sqlite(study))


@pytest.mark.parametrize("answered", [False, True], ids=["no answer", "a second answer"])
def test_a_run_that_was_made_twice_is_one_at_the_end(
    study: Study, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    """A request whose answer is late is sent again by MLflow, and again by us if it fails for good."""
    lost, *others = study.plan.models
    follower = Tracker(study.plan, study.results)
    client: Any = follower._runs._client
    create = client.create_run

    def late(*args: Any, **kwargs: Any) -> Any:
        create(*args, **kwargs)
        second = create(*args, **kwargs)
        if answered:
            return second
        raise TimeoutError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(client, "create_run", late)
        study.train(follower, [lost])
    assert len(MlflowClient(sqlite(study)).search_runs(["1"], f"attributes.run_name = '{lost.id}'")) == 2
    follower._connection.be_ready()
    study.train(follower, others)
    study.finish(follower)
    assert_complete(study, sqlite(study))  # which finds one of each
    assert follower.problems() == []


def test_a_study_whose_own_run_was_made_twice_has_one(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    create = MlflowClient.create_run

    def late(client: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        create(client, *args, **kwargs)
        return create(client, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", late)
        study.train(Tracker(study.plan, study.results), study.plan.models[:1])
    study.finish(Tracker(study.plan, study.results))
    assert_complete(study, sqlite(study))
    parent, children = runs_of(sqlite(study))
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}


def test_results_of_another_address_get_new_runs_with_their_history(study: Study, tmp_path: Path) -> None:
    shutil.copy(f"{study.results}/mlflow.db", tmp_path / "elsewhere.db")
    with tracked(f"sqlite:///{tmp_path}/elsewhere.db"):
        elsewhere = Tracker(study.plan, study.results)
        study.noted = study.train(elsewhere, study.plan.models)
        study.finish(elsewhere)
    here = Tracker(study.plan, study.results)
    study.finish(here)
    assert_complete(study, sqlite(study))
    (line,) = here.problems()
    named = ", ".join(model.id for model in study.plan.models[:5])
    assert f"the runs that these results name are not there ({named} and 3 more)" in line
    assert "made at another address" in line
    again = Tracker(study.plan, study.results)
    study.finish(again)
    assert again.problems() == []


def test_a_run_without_its_files_costs_the_others_none(
    study: Study, delete: Callable[[Study, str], None]
) -> None:
    lost = study.plan.models[1]
    follower = Tracker(study.plan, study.results)
    runs = study.train(follower, study.plan.models)
    delete(study, runs[lost.id])
    follower.attach_to_models(files_of_model, digests(study))
    (line,) = follower.problems()
    assert f"runs lack their files and have everything else ({lost.id}): its run was deleted" in line
    assert with_files(study) == {*study.plan.model} - {lost.id}
    follower.close(FINISHED)


def test_a_run_that_was_deleted_keeps_no_other_from_being_closed(
    study: Study, delete: Callable[[Study, str], None]
) -> None:
    follower = Tracker(study.plan, study.results)
    runs = follower.start_models(study.plan.models[:4])
    delete(study, min(runs.values()))  # the first to be closed
    follower.close(KILLED)
    parent, children = runs_of(sqlite(study))
    assert len(children) == 3
    assert {run.info.status for run in [parent, *children.values()]} == {KILLED}
    assert follower.problems() == []
