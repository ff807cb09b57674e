"""What is not finite costs its own piece of work, with the model and the image named, and is never stored."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from sweep.actors.cluster import share_context
from sweep.actors.ranks import _Ranker
from sweep.actors.work import Block, Features, Masked, ModelRef, Predictions, Relevance, Similarity
from sweep.actors.worker import Worker
from sweep.errors import WorkError
from sweep.numerics.masking import random_ranks
from sweep.plan import Model, Plan, make_plan
from sweep.storage.arrays import lists, matrix
from sweep.storage.store import Store, Unit
from tests.report.simulated import simulate
from tests.studies import SmallStudy, narrow_layers

FEATURES = 16
"""Of the narrow backbones at 32 pixels."""


class Finetuned:
    """A small study whose models are stored, and a worker for it in this process."""

    def __init__(self, study: SmallStudy, folder: Path) -> None:
        self.plan: Plan = make_plan(study.path)
        self.store = Store(str(folder / "results"))
        simulate(self.plan, self.store)
        for model in self.plan.models:
            self.weigh(model, np.ones((FEATURES, len(model.classes)), np.float32))
        self.layers: dict[str, Any] = {name: narrow_layers(name) for name in self.plan.backbones}
        self.worker = Worker(threads=1)

    def weigh(self, model: Model, kernel: np.ndarray[Any, Any]) -> None:
        """Store other weights of a model."""
        unit, content = self.plan.model_units[model.id], io.BytesIO()
        np.savez(content, kernel=kernel, bias=np.zeros(kernel.shape[1], np.float32))
        (row,) = self.store.read([unit]).to_pylist()
        row["weights_sha256"] = self.store.write_file(row["weights_uri"], content.getvalue())
        schema = self.plan.schema("models")
        self.store.write(unit, pa.Table.from_pylist([row], schema=schema), schema)

    def refer(self, model: Model) -> ModelRef:
        return ModelRef(model.id, model.cell.task, self.plan.model_units[model.id])

    def do(self, work: Any, *units: Unit) -> list[Unit]:
        """Do work after its `units` were removed; returns those that it did not store."""
        self.store.set_aside([unit.path for unit in units], ".replaced")
        context: Any = [share_context(self.plan, self.layers, self.store)]
        try:
            self.worker.do(context, work)
        finally:
            self.left = self.store.missing(units)
        return self.left


@pytest.fixture
def finetuned(small_study: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finetuned:
    # The object store only passes values on; without it no cluster need start.
    for name in ("get", "put"):
        monkeypatch.setattr(ray, name, lambda value: value)
    return Finetuned(small_study.changed(factors={"task": ["identity"]}), tmp_path)


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(WorkError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("layer", ["block3_conv1", "block5_conv3"])
def test_features_that_overflow(finetuned: Finetuned, layer: str) -> None:
    plan = finetuned.plan
    unit = plan.feature_units["first", 0]
    work = Features("first", plan.feature_chunks[0], unit)
    assert finetuned.do(work, unit) == []
    kernel, bias = finetuned.layers["first"][layer]
    finetuned.layers["first"][layer] = (kernel / np.abs(kernel).max() * np.float32(3e38), bias)
    finetuned.worker = Worker(threads=1)
    reason = refused(lambda: finetuned.do(work, unit))
    assert reason.startswith("features of the backbone first: not finite for image 'p00-v0' (")
    assert finetuned.left == [unit]


def test_a_model_whose_logits_or_maps_overflow_costs_the_others_nothing(finetuned: Finetuned) -> None:
    plan = finetuned.plan
    models = [model for model in plan.models if model.cell.pretraining == "first"]
    bad = models[0]
    finetuned.weigh(bad, np.full((FEATURES, len(bad.classes)), 3e38, np.float32))
    units = tuple(plan.relevance_units[model.id, 0] for model in models)
    work = Relevance(
        "first", plan.map_chunks[0], tuple(map(finetuned.refer, models)), units, "sweep", "preset_a_flat", "innvestigate"
    )  # fmt: skip
    reason = refused(lambda: finetuned.do(work, *units))
    assert reason.startswith(f"logits of the model {bad.id}: not finite for image 'p00-v2' (6 of 6 images)")
    assert finetuned.left == [units[0]]
    assert np.isfinite(matrix(finetuned.store.read([units[1]])["map"])).all()


def test_predictions(finetuned: Finetuned) -> None:
    plan = finetuned.plan
    model = plan.models[0]
    features = plan.feature_units["first", 0]
    values = np.ones((30, FEATURES), np.float32)
    values[4] = 3e38
    rows = {"pretraining": ["first"] * 30, "image_id": plan.images.ids, "features": lists(values)}
    finetuned.store.write(features, pa.table(rows), plan.schema("features"))
    unit = plan.prediction_units[model.id]
    reason = refused(lambda: finetuned.do(Predictions(finetuned.refer(model), (features,), unit), unit))
    assert reason.startswith(
        f"logits of the model {model.id}: not finite for image 'p00-v4' (1 of 30 images)"
    )
    assert finetuned.left == [unit]


def test_a_destination_whose_logits_overflow_costs_the_others_nothing(finetuned: Finetuned) -> None:
    plan = finetuned.plan
    block = plan.destination_blocks["first"][0]
    finetuned.weigh(block[0], np.full((FEATURES, len(block[0].classes)), 3e38, np.float32))
    units = plan.masked_units["random-1", "first", 0, 0]
    groups = tuple(zip(plan.groups(block), units, strict=True))
    keys = [plan.images.keys[index] for index in plan.mask_chunks[0]]
    work = Masked(
        "random-1", random_ranks("random-1", keys, 1024), "first", plan.mask_chunks[0], plan.study.masking,
        (Block(tuple(map(finetuned.refer, block)), groups),),
    )  # fmt: skip
    reason = refused(lambda: finetuned.do(work, *units))
    assert reason.startswith(
        f"logits of the model {block[0].id}, masked by random-1: not finite for image 'p00-v2'"
    )
    assert finetuned.left == [units[0]]


def spoil(finetuned: Finetuned, model: Model, value: float) -> Unit:
    unit = finetuned.plan.relevance_units[model.id, 0]
    rows = finetuned.store.read([unit])
    maps = matrix(rows["map"]).copy()
    maps[1] = value
    finetuned.store.write(
        unit, rows.set_column(rows.column_names.index("map"), "map", lists(maps)), finetuned.plan.schema("relevance")
    )  # fmt: skip
    return unit


def test_stored_maps_are_neither_compared_nor_ranked_where_they_are_not_finite(finetuned: Finetuned) -> None:
    plan = finetuned.plan
    first, second = plan.models[:2]
    stored = spoil(finetuned, first, np.nan)
    expected = f"stored maps of the model {first.id}: not finite for image 'p01-v2' (1 of 6 images)"
    assert refused(lambda: _Ranker().of_maps(finetuned.store, [stored], "absolute")).startswith(expected)
    unit = plan.similarity_units[second.id, 0]
    maps = (stored, plan.relevance_units[second.id, 0])
    work = Similarity(plan.map_chunks[0], (first.id, second.id), maps, ((1, unit),))
    assert refused(lambda: finetuned.do(work, unit)).startswith(expected)
    assert finetuned.left == [unit]


def test_a_map_of_zeros_does_not_mask_from_the_top_down(finetuned: Finetuned) -> None:
    model = finetuned.plan.models[0]
    stored = spoil(finetuned, model, 0)
    ranks = _Ranker().of_maps(finetuned.store, [stored], "absolute")
    np.testing.assert_array_equal(ranks[1:2], random_ranks(model.id, ["p01-v2"], 1024))
