"""MLflow's server goes away for half a minute while a study runs: the tables lack nothing, and the history catches up."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweep.plan import Plan, make_plan
from tests.chaos.harness import RUN_SECONDS, assert_whole, run, running, stored, wait_until
from tests.chaos.test_chaos import chaos_study
from tests.tracking.harness import free_port, server

OUTAGE = 30.0


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_half_a_minute_without_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = chaos_study(tmp_path / "study")
    root, log = study.path.parent / "results" / "small", study.path.parent / "run.log"
    plan, port = make_plan(study.path), free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with ExitStack() as stack:
        with server(tmp_path / "mlflow", port):
            process = stack.enter_context(running(study))
            assert wait_until(lambda: stored(root) >= 3, RUN_SECONDS, process), log.read_text()
        time.sleep(OUTAGE)
        uri = stack.enter_context(server(tmp_path / "mlflow", port))
        assert process.wait(RUN_SECONDS) == 0, log.read_text()
        assert_whole(plan, root)
        if "its runs have a gap" not in " ".join(log.read_text().split()):
            assert_complete(uri, plan)
    # A gap that was told is closed by the next run, which computes nothing.
    with server(tmp_path / "mlflow", port) as uri:
        assert "nothing to compute" in run(study)
        assert_complete(uri, plan)


def assert_complete(uri: str, plan: Plan) -> None:
    """Every model has one finished run with all of its epochs."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    found = {run.info.run_name: run.info for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {"small", *(model.id for model in plan.models)}
    for name, info in found.items():
        assert info.status == "FINISHED", name
        if name != "small":
            assert {metric.step for metric in client.get_metric_history(info.run_id, "loss")} == {1, 2, 3, 4}
