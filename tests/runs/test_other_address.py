"""Results that were made with another MLflow than is named now: a run of nothing but the catching up."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweep.plan import make_plan
from sweep.stages import columns_of
from sweep.stages.finetune import model_units
from sweep.storage.store import Store
from tests.report.simulated import simulate
from tests.studies import SmallStudy, sweep


@pytest.mark.chaos
def test_results_whose_runs_are_elsewhere_get_new_ones_and_one_line_says_so(small_study: SmallStudy) -> None:
    folder = small_study.path.parent
    plan, store = make_plan(small_study.path), Store(str(folder / "results" / "small"))
    simulate(plan, store)
    for unit in model_units(plan).values():
        rows = store.read([unit])
        named = rows.set_column(
            rows.column_names.index("mlflow_run_id"), "mlflow_run_id", [["0123456789abcdef" * 2]]
        )
        store.write(unit, named, columns_of(plan, "models"))
    done = sweep("run", small_study.path, cwd=folder)
    told = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, told
    assert "nothing to compute" in told
    assert told.count("the runs that these results name are not there") == 1
    assert "and 3 more): they were deleted, made at another address" in told
    assert found(folder) == {"small", *plan.model}


def found(folder: Path) -> set[str]:
    client = MlflowClient(f"sqlite:///{folder}/results/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    return {run.info.run_name for run in runs}
