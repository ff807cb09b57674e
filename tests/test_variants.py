"""A study that chooses otherwise wherever it can: iNNvestigate's maps, another order and fill, cells instead of images."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sweep.errors import InputError
from sweep.models.network import keras_model
from sweep.numerics.controls import other_image
from sweep.numerics.masking import masked, random_ranks, removal_ranks, removed_count, replacements
from sweep.numerics.readout import Readout
from sweep.plan import Plan, make_plan
from sweep.runs.verification import sample_maps, verify
from sweep.stages import finetune, masking, relevance, rows_of_tables
from sweep.storage.arrays import lists, matrix
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Store
from tests.in_process import run_in_process
from tests.studies import SmallStudy, sweep, write_small_study

PERCENTS = [0, 3, 20, 100]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    folder = tmp_path_factory.mktemp("variants")
    study = write_small_study(folder).changed(
        factors={"task": ["identity"], "seed": [1]},
        relevance={"engine": "innvestigate", "composite": "preset_b_flat"},
        masking={
            "percents": PERCENTS,
            "order": "positive",
            "fills": ["blur"],
            "controls": ["other_image", "scattered"],
            "granularity": "cell",
        },
    )
    plan, store = make_plan(study.path), Store(str(folder / "results" / "small"))
    run_in_process(plan, store, up_to="relevance")  # what is not varied
    done = sweep("run", study.path, cwd=folder)
    assert done.returncode == 0, done.stderr
    return plan, store


@pytest.mark.reference
def test_the_engine_agrees_with_the_maps_that_innvestigate_made(finished: tuple[Plan, Store]) -> None:
    from sweep.lrp import Dense, shared_relevance
    from sweep.models.network import backbone_network

    plan, store = finished
    images = list(plan.selected)
    for model in plan.models:
        level = plan.backbones[model.cell.pretraining]
        readout = Readout.from_bytes(store.read_weights(finetune.model_units(plan)[model.id]))
        rows = store.read([relevance.units(plan)[model.id, 0]])
        (maps,) = shared_relevance(
            backbone_network(level.weights.load(), 32),
            [Dense(readout.kernel, readout.bias)],
            level.weights.preprocessing(plan.images.pixels[images]),
            np.array([[model.labels[image] for image in images]]),
            composite="preset_b_flat",
        )
        for row, own in zip(rows.to_pylist(), maps, strict=True):
            stored = np.array(row["map"]).reshape(32, 32) * row["max_abs"]
            np.testing.assert_allclose(stored, own, atol=1e-4 * row["max_abs"])


def test_every_cell_equals_masks_made_by_hand_and_keras_predict(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    rows = pq.read_table(f"{store.root}/masked").to_pylist()
    # Two models with a control each, and random pixels; two destinations.
    assert len(rows) == 5 * 2 * len(PERCENTS) == rows_of_tables(plan)["masked"]
    stored = {
        (row["source_id"], row["control"], row["destination_id"], row["percent"]): row["correct"]
        for row in rows
    }
    assert {row["fill"] for row in rows} == {"blur"}
    images = list(plan.selected)
    keys = [plan.images.keys[image] for image in images]
    pixels = plan.images.pixels[images]
    expected: Counter[tuple[str, str, str, float]] = Counter()
    for destination in plan.models:
        level = plan.backbones[destination.cell.pretraining]
        readout = Readout.from_bytes(store.read_weights(finetune.model_units(plan)[destination.id]))
        model = keras_model(level.weights.load(), 32, readout.kernel, readout.bias)
        inputs = level.weights.preprocessing(pixels)
        instead = replacements("blur", pixels, keys, level.weights.preprocessing)
        for mask in masking.masks(plan):
            if mask.control == "scattered":
                ranks = random_ranks(mask.source, keys, 1024)
            else:
                maps = store.read([relevance.units(plan)[mask.source, 0]], columns=["map"])["map"].to_pylist()
                ranks = removal_ranks(np.array(maps, np.float32), "positive")
            if mask.control == "other_image":
                labels = np.array([plan.model[mask.source].labels[image] for image in images])
                others = other_image(mask.source, keys, labels, mask.draw)
                assert (labels[others] != labels).all()
                ranks = ranks[others]
            for percent in PERCENTS:
                removed = masked(inputs, ranks, removed_count(percent, 1024), instead)
                predicted = model.predict(removed, verbose=0).argmax(axis=1)
                right = [destination.labels[image] for image in images] == predicted
                expected[mask.source, mask.control, destination.id, float(percent)] = int(right.sum())
    assert stored == dict(expected)
    assert {row["n"] for row in rows} == {len(images)}


@pytest.mark.reference
def test_verify_finds_no_difference_to_itself_and_keeps_the_comparison(
    finished: tuple[Plan, Store],
) -> None:
    plan, store = finished
    done: list[int] = []
    found = verify(plan, store, 3, 0, done.append)
    assert sum(done) == 3
    # The stored map is normalised in float32, so it comes back with a rounding error.
    assert found.max_error < 1e-6
    assert found.min_pearson == pytest.approx(1, abs=1e-6)
    rows = pq.read_table(f"{store.root}/verification")
    assert rows.num_rows == 3
    assert set(rows["reference"].to_pylist()) == {"innvestigate 2.1.2"}


@pytest.mark.reference
def test_verify_from_the_command_line_fails_above_the_tolerance(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    from mlflow import MlflowClient

    folder = Path(store.root).parents[1]
    done = sweep("verify", plan.path, "--sample", "1", "--tolerance", "0", cwd=folder)
    assert done.returncode == 1, done.stderr
    assert "1 of 12 maps computed again by innvestigate 2.1.2" in done.stdout
    assert "is above the tolerance of 0" in done.stderr
    client = MlflowClient(f"sqlite:///{folder}/results/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "small"]
    (parent,) = [
        run
        for run in client.search_runs([experiment.experiment_id])
        if "mlflow.parentRunId" not in run.data.tags
    ]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["verification.maps"] == 1
    assert 0 < parent.data.metrics["verification.max_error"] < 1e-6


@pytest.mark.reference
def test_verify_fails_on_a_stored_map_that_is_not_finite(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    unit = relevance.units(plan)[plan.models[0].id, 0]
    rows = store.read([unit])
    maps = matrix(rows["map"]).copy()
    maps[2, 5] = np.nan
    spoilt = rows.set_column(rows.column_names.index("map"), "map", lists(maps))
    store.write(unit, spoilt, SCHEMAS["relevance"])
    try:
        done = sweep("verify", plan.path, "--sample", "12", cwd=Path(store.root).parents[1])
    finally:
        store.write(unit, rows, SCHEMAS["relevance"])
    assert done.returncode == 1, done.stderr
    name = f"{plan.models[0].id}, image {plan.images.ids[plan.selected[2]]}"
    assert done.stderr.splitlines()[-1].endswith(
        f"values that are not finite in a map or in its reference: {name}"
    )


def test_a_sample_depends_on_its_seed_only_and_takes_each_map_once(small_study: SmallStudy) -> None:
    plan = make_plan(small_study.path)
    assert sample_maps(plan, 7, 0) == sample_maps(plan, 7, 0)
    assert sample_maps(plan, 7, 0) != sample_maps(plan, 7, 1)
    everything = sample_maps(plan, 10_000, 0)
    assert {one.name: sorted(own) for one, own in everything.items()} == {
        model.id: list(range(6)) for model in plan.models
    }


@pytest.mark.parametrize(
    ("relevance", "expected"),
    [
        ({"composite": "epsilon_plus"}, "relevance.composite: iNNvestigate has the presets preset_a, "),
        ({"bias": "split"}, "relevance.bias: iNNvestigate knows 'innvestigate' only"),
    ],
)
def test_what_innvestigate_cannot_do_is_refused(
    small_study: SmallStudy, relevance: dict[str, str], expected: str
) -> None:
    path = small_study.changed(relevance={"engine": "innvestigate", **relevance}).path
    with pytest.raises(InputError, match=expected):
        make_plan(path)
    plan = make_plan(small_study.changed(relevance=relevance).path)
    with pytest.raises(InputError, match=expected):
        verify(plan, Store(str(path.parent / "results")), 1, 0)
