"""How busy nodes are, in the study's run, as MLflow's page of system metrics shows it."""

import time

import pytest
from mlflow import MlflowClient

from sweep.tracking import Tracker
from sweep.tracking.usage import NodeUsage
from tests.tracking.harness import Study, runs_of, sqlite, tracked


def test_a_node_is_told_of_now_and_then() -> None:
    usage = NodeUsage()
    assert usage.add("one", {"cpu": 50}, now=100) == {"system/one/cpu": 50}
    assert usage.add("one", {"cpu": 10, "peak": 5}, now=104) == {}
    assert usage.add("a/b", {"cpu": 1}, now=105) == {"system/a_b/cpu": 1}
    assert usage.add("one", {"cpu": 30, "peak": 4}, now=110) == {"system/one/cpu": 20, "system/one/peak": 5}
    assert usage.add("one", {"cpu": 70}, now=111) == {}
    assert usage.rest() == {"system/one/cpu": 70}
    assert usage.rest() == {}


def test_the_studys_run_has_them(study: Study) -> None:
    name = "system/host/cpu_utilization_percentage"
    follower = Tracker(study.plan, study.results)
    for value in (40.0, 60.0, 80.0):
        follower.node_used("host", {"cpu_utilization_percentage": value})
    follower.stage_done("masking", 3, 2.5)
    study.finish(follower)
    parent, _ = runs_of(sqlite(study))
    told = MlflowClient(sqlite(study)).get_metric_history(parent.info.run_id, name)
    assert sorted(metric.value for metric in told) == [40.0, 70.0]
    assert all(0 <= metric.step <= time.time() - parent.info.start_time / 1000 for metric in told)
    # The study goes on, and its steps with it.
    later = Tracker(study.plan, study.results)
    later.node_used("host", {"cpu_utilization_percentage": 5.0})
    later.close("FINISHED")
    told = MlflowClient(sqlite(study)).get_metric_history(parent.info.run_id, name)
    assert len(told) == 3
    assert max(told, key=lambda metric: (metric.step, metric.timestamp)).value == 5.0


def test_a_server_that_is_away_costs_the_readings_and_nothing_else(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracked("http://127.0.0.1:9"):
        follower = Tracker(study.plan, study.results)
        follower.node_used("host", {"cpu_utilization_percentage": 40.0})
        follower.close("FINISHED")
    (line,) = follower.problems()
    assert "its runs have a gap" in line
