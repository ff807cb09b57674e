"""What is not finite costs its own piece of work, with the model and the image named, and is never stored."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from sweep.actors import worker
from sweep.actors.cluster import share_context
from sweep.actors.ranks import _Ranker
from sweep.actors.worker import Worker
from sweep.arrays import Array
from sweep.errors import WorkError
from sweep.models.network import backbone_network
from sweep.numerics.masking import Ranking, random_ranks
from sweep.plan import Model, Plan, make_plan
from sweep.stages import columns_of, features, finetune, masking, predictions, relevance, similarity
from sweep.storage.arrays import lists, matrix
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Store, Unit
from tests.in_process import missing_pieces
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

    def weigh(self, model: Model, kernel: Array) -> None:
        """Store other weights of a model."""
        unit, content = finetune.model_units(self.plan)[model.id], io.BytesIO()
        np.savez(content, kernel=kernel, bias=np.zeros(kernel.shape[1], np.float32))
        (row,) = self.store.read([unit]).to_pylist()
        row["weights_sha256"] = self.store.write_file(row["weights_uri"], content.getvalue())
        schema = columns_of(self.plan, "models")
        self.store.write(unit, pa.Table.from_pylist([row], schema=schema), schema)

    def do(self, stage: str, units: Sequence[Unit]) -> list[Unit]:
        """Make `units` of a stage again after they were removed; returns those that were not stored."""
        self.store.set_aside([unit.path for unit in units], ".replaced")
        networks = {name: backbone_network(layers, 32) for name, layers in self.layers.items()}
        context: Any = [share_context(self.plan, networks, self.store, put=lambda value: value)]
        (piece,) = missing_pieces(self.plan, self.store, stage)
        try:
            self.worker.do(context, piece)
        finally:
            self.left = self.store.missing(units)
        return self.left


@pytest.fixture
def finetuned(small_study: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finetuned:
    # The object store only passes values on; without it no cluster need start.
    monkeypatch.setattr(ray, "get", lambda value: value)
    # Another test may have made TensorFlow compute in this process, which ends its being set up.
    monkeypatch.setattr(worker, "configure_tensorflow", lambda threads: None)
    return Finetuned(small_study.changed(factors={"task": ["identity"]}), tmp_path)


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(WorkError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("layer", ["block1_conv1", "block3_conv1", "block5_conv3"])
def test_features_that_overflow(finetuned: Finetuned, layer: str) -> None:
    unit = features.units(finetuned.plan)["first", 0]
    assert finetuned.do("features", [unit]) == []
    kernel, bias = finetuned.layers["first"][layer]
    finetuned.layers["first"][layer] = (kernel / np.abs(kernel).max() * np.float32(3e38), bias)
    finetuned.worker = Worker(threads=1)
    reason = refused(lambda: finetuned.do("features", [unit]))
    assert reason.startswith("features of the backbone first: not finite for image 'p00-v0' (")
    assert finetuned.left == [unit]


def test_a_model_whose_logits_or_maps_overflow_costs_the_others_nothing(finetuned: Finetuned) -> None:
    plan = finetuned.plan
    models = [model for model in plan.models if model.cell.pretraining == "first"]
    bad = models[0]
    finetuned.weigh(bad, np.full((FEATURES, len(bad.classes)), 3e38, np.float32))
    units = [relevance.units(plan)[model.id, 0] for model in models]
    reason = refused(lambda: finetuned.do("relevance", units))
    assert reason.startswith(f"logits of the model {bad.id}: not finite for image 'p00-v2' (6 of 6 images)")
    assert finetuned.left == [units[0]]
    assert np.isfinite(matrix(finetuned.store.read([units[1]])["map"])).all()


def test_predictions(finetuned: Finetuned) -> None:
    plan = finetuned.plan
    model = plan.models[0]
    values = np.ones((30, FEATURES), np.float32)
    values[4] = 3e38
    rows = {"pretraining": ["first"] * 30, "image_id": plan.images.ids, "features": lists(values)}
    finetuned.store.write(features.units(plan)["first", 0], pa.table(rows), SCHEMAS["features"])
    unit = predictions.units(plan)[model.id]
    reason = refused(lambda: finetuned.do("predictions", [unit]))
    assert reason.startswith(
        f"logits of the model {model.id}: not finite for image 'p00-v4' (1 of 30 images)"
    )
    assert finetuned.left == [unit]


def test_a_destination_whose_logits_overflow_costs_the_others_nothing(finetuned: Finetuned) -> None:
    plan = finetuned.plan
    block = masking.blocks(plan)["first"][0]
    finetuned.weigh(block[0], np.full((FEATURES, len(block[0].classes)), 3e38, np.float32))
    units = masking.units(plan)[masking.masks(plan)[-1], "first", 0, 0]
    reason = refused(lambda: finetuned.do("masking", units))
    assert reason.startswith(
        f"logits of the model {block[0].id}, masked by random-1: not finite for image 'p00-v2'"
    )
    assert finetuned.left == [units[0]]


def spoil(finetuned: Finetuned, model: Model, value: float) -> Unit:
    unit = relevance.units(finetuned.plan)[model.id, 0]
    rows = finetuned.store.read([unit])
    maps = matrix(rows["map"]).copy()
    maps[1] = value
    spoilt = rows.set_column(rows.column_names.index("map"), "map", lists(maps))
    finetuned.store.write(unit, spoilt, SCHEMAS["relevance"])
    return unit


def test_stored_maps_are_neither_compared_nor_ranked_where_they_are_not_finite(finetuned: Finetuned) -> None:
    first = finetuned.plan.models[0]
    stored = spoil(finetuned, first, np.nan)
    expected = f"stored maps of the model {first.id}: not finite for image 'p01-v2' (1 of 6 images)"
    assert refused(lambda: _Ranker(None).of_maps(finetuned.store, [stored], Ranking("absolute"))).startswith(
        expected
    )
    pair = [
        unit
        for place, unit in similarity.units(finetuned.plan).items()
        if first in similarity.others(finetuned.plan, place)
    ][:1]
    assert refused(lambda: finetuned.do("similarity", pair)).startswith(expected)
    assert finetuned.left == pair


def test_a_map_of_zeros_does_not_mask_from_the_top_down(finetuned: Finetuned) -> None:
    model = finetuned.plan.models[0]
    stored = spoil(finetuned, model, 0)
    ranks = _Ranker(None).of_maps(finetuned.store, [stored], Ranking("absolute"))
    np.testing.assert_array_equal(ranks[1:2], random_ranks(model.id, ["p01-v2"], 1024))
