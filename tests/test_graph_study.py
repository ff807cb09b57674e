"""A study of networks that are no chains: a residual Keras model and its untrained twin, from features to masks."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from sweep.lrp import relevance
from sweep.models.network import joined
from sweep.numerics.masking import removal_ranks
from sweep.plan import Plan, make_plan
from sweep.runs.verification import verify
from sweep.stages import finetune, masking, stage_costs
from sweep.stages import relevance as maps_stage
from sweep.stages.cost import size_of
from sweep.stages.memory import worker_bytes
from sweep.storage.store import Store
from tests.in_process import load, run_in_process
from tests.models.test_keras_models import residual, save
from tests.studies import sweep, write_small_study

INPUT = {"channel_order": "RGB", "mean": [100, 100, 100], "scale": 0.02}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    folder = tmp_path_factory.mktemp("graphs")
    save(residual(), folder / "own.keras")
    study = write_small_study(folder).changed(
        factors={
            "pretraining": {
                "own": {"weights": "keras:own.keras", **INPUT},
                "untrained": {"weights": "random:1:keras:own.keras", **INPUT},
            },
            "seed": [1],
        },
        masking={"percents": [0, 10, 100], "controls": []},
    )
    plan, store = make_plan(study.path), Store(str(folder / "results"))
    run_in_process(plan, store)
    return plan, store


def model_with_readout(plan: Plan, store: Store, model_id: str) -> Any:
    """The whole network of a finetuned model, as the engine sees it, and its readout."""
    loaded, model = load(plan, store), plan.model[model_id]
    readout = loaded.readout(finetune.refer(plan, model))
    return loaded.network(model.cell.pretraining), readout


def test_stored_maps_are_those_of_the_whole_network(finished: tuple[Plan, Store]) -> None:
    from sweep.lrp import Dense

    plan, store = finished
    images = list(plan.selected)
    for model in plan.models:
        backbone, readout = model_with_readout(plan, store, model.id)
        inputs = plan.backbones[model.cell.pretraining].weights.preprocessing(plan.images.pixels[images])
        whole = joined(backbone, Dense(readout.kernel, readout.bias))
        expected = relevance(whole, inputs, [model.labels[image] for image in images])
        rows = store.read([maps_stage.units(plan)[model.id, 0]]).to_pylist()
        for row, own in zip(rows, expected, strict=True):
            stored = np.array(row["map"]).reshape(32, 32) * row["max_abs"]
            np.testing.assert_allclose(stored, own, atol=1e-5 * row["max_abs"])


def test_masked_predictions_are_keras_own(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    images, (source, destination) = (
        list(plan.selected),
        [m for m in plan.models if m.cell.pretraining == "own"],
    )
    _, readout = model_with_readout(plan, store, destination.id)
    pixels = plan.images.pixels[images]
    preprocessing = plan.backbones["own"].weights.preprocessing
    rows = store.read([maps_stage.units(plan)[source.id, 0]], columns=["map"])["map"].to_pylist()
    ranks = removal_ranks(np.array(rows, np.float32))
    gone = (ranks < 102).reshape(-1, 32, 32, 1)
    whole = residual()
    hidden = keras.Model(whole.inputs[0], whole.get_layer("hidden").output)
    inputs = np.where(gone, 0, preprocessing(pixels))  # the mean, which preprocessing moves to 0
    features = np.asarray(hidden(inputs.astype(np.float32)))
    wanted = (features @ readout.kernel + readout.bias).argmax(axis=1)
    stored = [
        row
        for units in masking.units(plan).values()
        for row in store.read(units).to_pylist()
        if (row["source_id"], row["control"], row["destination_id"], row["percent"])
        == (source.id, "none", destination.id, 10)
    ]
    assert len(stored) == len(images)
    found = {row["image_id"]: row["predicted_class"] for row in stored}
    assert [found[plan.images.ids[image]] for image in images] == [destination.classes[k] for k in wanted]


def test_cost_and_memory_count_all_layers_with_kernels(finished: tuple[Plan, Store]) -> None:
    plan, _ = finished
    networks = plan.load_networks()
    size = size_of(plan, networks)
    kernels = {
        name: 2 * k * (32 // s) ** 2
        for name, k, s in (("3x3", 27 * 4, 1), ("branch", 36 * 6, 2), ("1x1", 24, 2))
    }
    assert size.pass_flops[0] == sum(kernels.values()) + 2 * 6 * 5  # and a hidden dense layer
    assert size.features == (5, 5)
    assert 1 < size.passes_per_image < 3
    assert sum(cost.passes for cost in stage_costs(size)) > 0
    assert worker_bytes(plan, networks) > 5e8


@pytest.mark.reference
def test_verification_shares_sums_as_innvestigate_does(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    found = verify(plan, store, 4, 0)
    assert not found.is_of_stored_maps(plan)
    assert found.max_error < 1e-4


def test_models_show_lists_the_layers_and_what_follows(tmp_path: Path) -> None:
    save(residual(), tmp_path / "own.keras")
    shown = sweep("models", "show", "keras:own.keras", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for line in (
        "add",
        "features: 5",
        "a pass at 32 px: ",
        "plus with preset_a, ",
        "are for: first",
    ):
        assert line in shown.stdout
    assert "input: not said by the file; a study must give channel_order and mean" in shown.stdout
    refused = sweep("models", "show", "keras:own.keras", "--size", "64", cwd=tmp_path)
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("sweep: ")]
    assert "takes images of 32 px only" in line
