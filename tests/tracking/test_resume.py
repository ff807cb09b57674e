"""A real study whose driver is killed in the middle of its finetunes and run again."""

import subprocess
import time

import pytest
from mlflow import MlflowClient

from sweep.plan import make_plan
from sweep.stages import features, finetune, predictions
from sweep.storage.arrays import matrix
from sweep.storage.store import Store
from sweep.tracking import FINISHED, load_readout
from tests.chaos.harness import descendants, kill
from tests.studies import SWEEP, SmallStudy, sweep


@pytest.mark.chaos
@pytest.mark.timeout(2400)
def test_a_killed_study_ends_with_one_finished_run_per_model(small_study: SmallStudy) -> None:
    folder = small_study.path.parent
    with (folder / "log").open("wb") as log:
        driver = subprocess.Popen([SWEEP, "run", small_study.path], cwd=folder, stdout=log, stderr=log)
    models = folder / "results" / "small" / "models"
    while len(list(models.glob("*.parquet"))) < 2:
        assert driver.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
    for process in [driver.pid, *descendants(driver.pid)]:
        kill(process)
    driver.wait()
    uri = f"sqlite:///{folder}/results/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    before = client.search_runs([experiment.experiment_id])
    assert "RUNNING" in {run.info.status for run in before}

    done = sweep("run", small_study.path, cwd=folder)
    assert done.returncode == 0, done.stderr
    plan = make_plan(small_study.path)
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {FINISHED}
    assert sorted(run.info.run_name for run in runs) == sorted(["small", *plan.model])
    assert {run.info.run_id for run in before} <= {run.info.run_id for run in runs}

    store = Store(str(folder / "results" / "small"))
    for run in runs:
        model = plan.model.get(run.info.run_name)
        if model is not None:
            metrics = client.get_metric_history(run.info.run_id, "val_loss")
            rows = store.read([finetune.epoch_units(plan)[model.id]]).to_pylist()
            assert sorted((m.step, m.value) for m in metrics) == [
                (row["epoch"], row["val_loss"]) for row in rows
            ]
    parent = next(run for run in runs if run.info.run_name == "small")
    assert {"stage_seconds.relevance", "stage_seconds.masking"} <= set(parent.data.metrics)
    usage = {name.rpartition("/")[2] for name in parent.data.metrics if name.startswith("system/")}
    assert {"cpu_utilization_percentage", "worker_peak_memory_megabytes"} <= usage
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} >= {
        "report",
        "figures",
        "tables.json",
    }

    model = plan.models[0]
    (run,) = [run for run in runs if run.info.run_name == model.id]
    inputs = store.read(
        [unit for (name, _), unit in features.units(plan).items() if name == model.cell.pretraining]
    )
    predicted = load_readout(run.info.run_id, uri).logits(matrix(inputs["features"])).argmax(axis=1)
    first = store.read([predictions.units(plan)[model.id]]).to_pylist()
    chosen = {row["image_id"]: row["class"] for row in first if row["rank"] == 1}
    assert {
        i: model.classes[c] for i, c in zip(inputs["image_id"].to_pylist(), predicted, strict=True)
    } == chosen
