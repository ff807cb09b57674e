"""A small study from the study file to the statistics, through the command a user types."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import scipy.stats

from sweep.analysis.queries import run_query
from sweep.numerics.masking import removed_count
from sweep.numerics.readout import Readout
from sweep.plan import Plan, make_plan
from sweep.stages import rows_of_tables
from sweep.storage.store import Store
from tests.in_process import run_in_process
from tests.studies import SmallStudy, sweep, write_small_study


@dataclass(frozen=True)
class Finished:
    study: SmallStudy
    plan: Plan
    results: Path
    output: str

    def table(self, name: str, where: str = "true") -> list[dict[str, Any]]:
        files = f"{self.results}/small/{name}/*.parquet"
        with duckdb.connect() as connection:
            rows = connection.execute(f"FROM read_parquet('{files}') WHERE {where}")
            columns = [column[0] for column in rows.description or ()]
            return [dict(zip(columns, row, strict=True)) for row in rows.fetchall()]

    def files(self) -> Mapping[str, bytes]:
        root = self.results / "small"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("[a-z]*/*.parquet")}

    def keras_model(self, model_id: str) -> Any:
        from sweep.models.network import keras_model

        (row,) = self.table("models", f"model_id = '{model_id}'")
        readout = Readout.from_bytes((self.results / "small" / row["weights_uri"]).read_bytes())
        layers = self.plan.backbones[row["pretraining"]].weights.load()
        return keras_model(layers, 32, readout.kernel, readout.bias)

    def inputs(self, image_ids: list[str], pretraining: str) -> np.ndarray[Any, Any]:
        positions = [self.plan.images.ids.index(image) for image in image_ids]
        return self.plan.backbones[pretraining].weights.preprocessing(self.plan.images.pixels[positions])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("whole")
    study = write_small_study(folder)
    done = sweep("run", study.path, cwd=folder)
    assert done.returncode == 0, done.stderr
    # Seconds in which nothing else is told: before the first stage, and after the last.
    assert done.stderr.splitlines()[0] == "Starting Ray on this machine."
    assert done.stderr.splitlines()[-1].startswith("report: 1/1, done in ")
    return Finished(study, make_plan(study.path), folder / "results", done.stdout)


def test_every_table_has_the_rows_that_the_plan_announced(finished: Finished) -> None:
    planned = rows_of_tables(finished.plan)
    assert planned == {
        "images": 30,
        "features": 60,
        "epochs": 32,
        "models": 8,
        "predictions": 4 * 30 * (5 + 2),
        "relevance": 48,
        "similarity": 6 * 28,
        "masked": 9 * 8 * 5 * 6,
    }
    assert {name: len(finished.table(name)) for name in planned} == planned
    shown = sweep("plan", finished.study.path, "--no-time", cwd=finished.results.parent).stdout
    for name, rows in planned.items():
        assert any(
            line.split()[1:2] == [name] and line.split()[-1] == f"{rows:,}" for line in shown.splitlines()
        )


def test_the_answers_are_printed(finished: Finished) -> None:
    for expected in (
        "same_init",
        "other_both",
        "random",
        "identity: pretraining ",
        "F(1, 4) = ",
        "mlflow ui",
    ):
        assert expected in finished.output
    assert (finished.results / "small" / "figures" / "accuracy_curves_mean.png").stat().st_size > 10_000


def test_accuracies_equal_keras_evaluate(finished: Finished) -> None:
    import keras

    images = finished.table("images")
    for row in finished.table("models", "seed = 1"):
        model = finished.keras_model(row["model_id"])
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        for split, stored in (("train", row["train_accuracy"]), ("validation", row["val_accuracy"])):
            own = [image for image in images if image["split"] == split]
            classes = sorted({image[row["task"]] for image in images})
            targets = np.array([classes.index(image[row["task"]]) for image in own])
            inputs = finished.inputs([image["image_id"] for image in own], row["pretraining"])
            assert model.evaluate(inputs, targets, verbose=0)[1] == pytest.approx(stored)


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("first-identity-s1", "first-identity-s1"),
        ("second-gender-s2", "first-identity-s1"),
        ("random-1", "second-gender-s1"),
    ],
)
def test_a_cell_of_masked_equals_a_mask_made_by_hand_and_keras_predict(
    finished: Finished, source: str, destination: str
) -> None:
    from sweep.numerics.masking import random_ranks

    model = finished.keras_model(destination)
    pretraining, task, _ = destination.split("-")
    cells = finished.table("masked", f"source_id = '{source}' AND destination_id = '{destination}'")
    maps = {row["image_id"]: row for row in finished.table("relevance", f"model_id = '{source}'")}
    truth = {row["image_id"]: row[task] for row in finished.table("images")}
    classes = sorted(set(truth.values()))
    assert len(cells) == 5 * 6
    for cell in cells:
        image = cell["image_id"]
        (inputs,) = finished.inputs([image], pretraining)
        count = removed_count(cell["percent"], 32 * 32)
        if source == "random-1":
            key = finished.plan.images.keys[finished.plan.images.ids.index(image)]
            gone = np.flatnonzero(random_ranks("random-1", (key,), 32 * 32)[0] < count)
        else:
            relevance = np.abs(np.array(maps[image]["map"], np.float32))
            gone = np.array(sorted(range(32 * 32), key=lambda pixel: (-relevance[pixel], pixel))[:count], int)
        for pixel in gone:
            inputs[pixel // 32, pixel % 32, :] = 0
        logits = model.predict(inputs[None], verbose=0)[0]
        assert cell["predicted_class"] == classes[int(logits.argmax())]
        assert cell["correct"] == (cell["predicted_class"] == truth[image])
        assert cell["target_logit"] == pytest.approx(logits[classes.index(truth[image])], rel=1e-3, abs=1e-3)


def test_maps_are_the_relevance_of_the_whole_network_normalised(finished: Finished) -> None:
    from sweep.lrp import from_keras, relevance

    model = finished.keras_model("second-identity-s2")
    rows = finished.table("relevance", "model_id = 'second-identity-s2'")
    classes = sorted({image["identity"] for image in finished.table("images")})
    inputs = finished.inputs([row["image_id"] for row in rows], "second")
    targets = [classes.index(row["target_class"]) for row in rows]
    maps = relevance(from_keras(model), inputs, targets, composite="preset_a_flat")
    for row, expected in zip(rows, maps, strict=True):
        stored = np.array(row["map"]).reshape(row["height"], row["width"])
        assert np.abs(stored).max() == pytest.approx(1)
        assert row["max_abs"] == pytest.approx(np.abs(expected).max(), rel=1e-4)
        np.testing.assert_allclose(stored * row["max_abs"], expected, atol=1e-4 * np.abs(expected).max())


def test_similarities_are_pearson_of_the_stored_maps(finished: Finished) -> None:
    maps = {(row["model_id"], row["image_id"]): np.array(row["map"]) for row in finished.table("relevance")}
    rows = finished.table("similarity")
    assert len({frozenset((row["model_a"], row["model_b"])) for row in rows}) == 28
    for row in rows:
        a, b = maps[row["model_a"], row["image_id"]], maps[row["model_b"], row["image_id"]]
        assert row["pearson"] == pytest.approx(scipy.stats.pearsonr(a, b).statistic, abs=1e-9)


def test_predictions_rank_the_logits(finished: Finished) -> None:
    model = finished.keras_model("first-identity-s2")
    rows = finished.table(
        "predictions", "model_id = 'first-identity-s2' AND image_id = 'p03-v1' ORDER BY rank"
    )
    logits = model.predict(finished.inputs(["p03-v1"], "first"), verbose=0)[0]
    order = np.argsort(-logits)[:5]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["class"] for row in rows] == [f"p{index:02d}" for index in order]
    np.testing.assert_allclose([row["logit"] for row in rows], logits[order], rtol=1e-3, atol=1e-3)


def test_mlflow_shows_the_study_and_a_finished_run_per_model_with_curves(finished: Finished) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished.results}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert set(children) == {model.id for model in finished.plan.models}
    assert all(run.info.status == "FINISHED" for run in runs)
    rows = finished.table("models")
    for row in rows:
        child = children[row["model_id"]]
        assert child.info.run_id == row["mlflow_run_id"]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.params["seed"] == str(row["seed"])
        assert child.data.metrics["final_val_accuracy"] == pytest.approx(row["val_accuracy"])
        epochs = {e["epoch"]: e["loss"] for e in finished.table("epochs", f"model_id = '{row['model_id']}'")}
        assert {
            m.step: m.value for m in client.get_metric_history(child.info.run_id, "loss")
        } == pytest.approx(epochs)
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"figures", "study", "tables.json"} <= names


def test_queries_answer_from_the_command_line(finished: Finished) -> None:
    cwd = finished.results.parent
    answer = json.loads(sweep("query", "bins", "--format", "json", cwd=cwd).stdout)
    assert {row["relation"] for row in answer} >= {"same_init", "other_task", "other_both", "random"}
    few = json.loads(sweep("query", "bins", "--set", "draws=7", "--format", "json", cwd=cwd).stdout)
    assert {row["n_draws"] for row in few} == {7}
    unknown = sweep("query", "acu", cwd=cwd)
    assert unknown.returncode == 2
    assert "auc" in unknown.stderr
    assert len(unknown.stderr.splitlines()) == 1


def test_a_rerun_does_nothing_and_a_further_seed_only_its_own(finished: Finished) -> None:
    before = finished.files()
    study = finished.study.changed(factors={"seed": [1, 2, 5]})
    try:
        # What is to be done follows from the store alone, wherever it is done.
        run_in_process(make_plan(study.path), Store(f"{finished.results}/small"))
        done = sweep("run", study.path, cwd=finished.results.parent)
        assert done.returncode == 0, done.stderr
        assert "nothing to compute" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("report: 1/1, done in ")
        after = finished.files()
        assert {name: after[name] for name in before} == before
        added = set(after) - set(before)
        assert all("-s5" in name for name in added)
        planned = rows_of_tables(make_plan(study.path))
        assert {name: len(finished.table(name)) for name in planned} == planned
    finally:
        finished.study.changed()
    dropped = sweep("run", finished.study.path, cwd=finished.results.parent)
    assert "nothing to compute" in dropped.stderr
    assert dropped.returncode == 0
    # What the fifth seed left is there for when it is asked for again, and no reader sees it.
    assert set(finished.files()) == set(after)
    for table in set(planned) - {"features"}:
        with duckdb.connect() as connection:
            run_query("auc", f"{finished.results}/small", connection=connection)
            (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone() or (None,)
        assert count == rows_of_tables(finished.plan)[table]
