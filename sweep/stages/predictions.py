"""The stage `predictions`: each model's highest logits for every unmasked image."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sweep.keys import key_of
from sweep.numerics.finite import check_finite
from sweep.plan import Plan
from sweep.stages import features, finetune
from sweep.stages.cost import FILE_BYTES, ROW_BYTES, Size, StageCost
from sweep.stages.loaded import Loaded, ModelRef
from sweep.stages.stage import Ranker, Stage, UnitRows, once_per_plan
from sweep.storage.arrays import matrix
from sweep.storage.store import Store, Unit


@once_per_plan
def units(plan: Plan) -> Mapping[str, Unit]:
    """Units by model."""
    ranks, images = plan.study.analysis.ranks, len(plan.images.ids)
    return {
        model.id: Unit(
            "predictions",
            model.id,
            key_of("predictions", model.key, ranks),
            images * min(ranks, len(model.classes)),
        )
        for model in plan.present
    }


def _inputs(plan: Plan) -> Iterator[tuple[Unit, tuple[Unit, ...]]]:
    for model_id, unit in units(plan).items():
        read = features.units_of_backbone(plan, plan.model[model_id].backbone)
        yield unit, (finetune.model_units(plan)[model_id], *read)


def _cost(size: Size) -> StageCost:
    rows = size.models * size.images * min(size.ranks, size.classes)
    return StageCost(
        "predictions",
        size.models,
        pass_flops=size.models * size.images * size.head_flops,
        other_flops=size.models * size.images * size.readout_flops,
        bytes=rows * ROW_BYTES["predictions"] + size.models * FILE_BYTES,
    )


def _pieces(plan: Plan, store: Store, missing: set[Unit], ranker: Ranker) -> Iterator["PredictionsPiece"]:
    for model_id, unit in units(plan).items():
        if unit in missing:
            model = plan.model[model_id]
            read = features.units_of_backbone(plan, model.backbone)
            yield PredictionsPiece(finetune.refer(plan, model), read, unit)


STAGE = Stage(
    name="predictions",
    tables=("predictions",),
    made_from=("features", "finetune"),
    units=lambda plan: list(units(plan).values()),
    inputs=_inputs,
    settings=lambda plan: {"ranks": plan.study.analysis.ranks},
    cost=_cost,
    pieces=_pieces,
)


# What a worker does


@dataclass(frozen=True)
class PredictionsPiece:
    """The highest logits of one model for all images."""

    model: ModelRef
    features: tuple[Unit, ...]
    unit: Unit

    @property
    def units(self) -> tuple[Unit, ...]:
        """The one unit that it writes."""
        return (self.unit,)

    def compute(self, loaded: Loaded) -> Iterator[UnitRows]:
        """Apply the readout to the stored features."""
        stored = loaded.store.read(self.features, columns=["image_id", "features"])
        logits = loaded.readout(self.model).logits(matrix(stored["features"]))
        check_finite(logits, f"logits of the model {self.model.id}", stored["image_id"].to_pylist())
        kept = self.unit.rows // len(logits)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :kept]
        yield UnitRows(
            self.unit,
            {
                "model_id": [self.model.id] * self.unit.rows,
                "image_id": np.repeat(np.asarray(stored["image_id"].to_pylist()), kept),
                "rank": np.tile(np.arange(1, kept + 1, dtype=np.int32), len(logits)),
                "class": loaded.classes(self.model)[order].ravel(),
                "logit": np.take_along_axis(logits, order, axis=1).ravel(),
            },
        )
