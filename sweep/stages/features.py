"""The stage `features`: what each frozen backbone makes of each image, computed once for all models.

Where models are trained on mirrored images too (`finetune.mirror`), their features have a table of their own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from sweep.data.images import TRAIN
from sweep.keys import key_of
from sweep.numerics.finite import check_finite
from sweep.plan import Model, Plan
from sweep.stages.cost import FEATURE_BYTES, FILE_BYTES, Size, StageCost
from sweep.stages.loaded import Loaded
from sweep.stages.stage import Ranker, Stage, UnitRows, chunked, no_inputs, once_per_plan
from sweep.storage.arrays import lists
from sweep.storage.store import Store, Unit

CHUNK = 128
"""Images per unit."""


@once_per_plan
def chunks(plan: Plan) -> list[tuple[int, ...]]:
    """Image positions of each unit."""
    return chunked(range(len(plan.images.ids)), CHUNK)


@once_per_plan
def units(plan: Plan) -> Mapping[tuple[str, int], Unit]:
    """Units by pretraining and chunk."""
    found = {}
    for backbone in plan.backbones.values():
        for c, chunk in enumerate(chunks(plan)):
            key = key_of("features", backbone.name, backbone.key, plan.image_keys(chunk))
            found[backbone.name, c] = Unit("features", f"{backbone.name}.{c:04d}", key, len(chunk))
    return found


@once_per_plan
def mirrored_chunks(plan: Plan) -> list[tuple[int, ...]]:
    """Image positions of each unit of mirrored images: of those to train on."""
    split = plan.images.table["split"].to_pylist()
    return chunked([position for position, part in enumerate(split) if part == TRAIN], CHUNK)


@once_per_plan
def mirrored_units(plan: Plan) -> Mapping[tuple[str, int], Unit]:
    """Units of mirrored images by pretraining and chunk, for the backbones on which a model is trained on them."""
    found = {}
    asked = {model.backbone for model in plan.models if model.cell.finetune.mirror}
    for backbone in plan.backbones.values():
        if backbone.name in asked:
            for c, chunk in enumerate(mirrored_chunks(plan)):
                key = key_of("mirrored", backbone.name, backbone.key, plan.image_keys(chunk))
                found[backbone.name, c] = Unit("mirrored", f"{backbone.name}.{c:04d}", key, len(chunk))
    return found


def mirrored_units_of(plan: Plan, model: Model) -> tuple[Unit, ...]:
    """Features of the mirrored images that a model is trained on; none where it is not."""
    if not model.cell.finetune.mirror:
        return ()
    return tuple(mirrored_units(plan)[model.backbone, c] for c in range(len(mirrored_chunks(plan))))


def units_of_backbone(plan: Plan, pretraining: str) -> tuple[Unit, ...]:
    """Features of all images on one backbone."""
    return tuple(units(plan)[pretraining, c] for c in range(len(chunks(plan))))


def _all(plan: Plan) -> list[Unit]:
    return [*units(plan).values(), *mirrored_units(plan).values()]


def _settings(plan: Plan) -> dict[str, object]:
    return {
        "backbones": {
            name: {
                "weights": backbone.source,
                "weights_key": backbone.weights.key,
                "preprocessing": backbone.weights.preprocessing.settings(),
                **({} if backbone.before is None else {"before": backbone.before}),
            }
            for name, backbone in plan.backbones.items()
        }
    }


def _cost(size: Size) -> StageCost:
    images = size.images * (1 + (size.train_share if size.mirror else 0))
    count = size.backbones * ceil(images / CHUNK)
    passes = size.backbones * images
    written = images * sum(size.features) * FEATURE_BYTES + count * FILE_BYTES
    return StageCost("features", count, passes, passes * size.mean_flops, bytes=written)


def _pieces(plan: Plan, store: Store, missing: set[Unit], ranker: Ranker) -> Iterator["FeaturesPiece"]:
    for (backbone, c), unit in units(plan).items():
        if unit in missing:
            yield FeaturesPiece(backbone, chunks(plan)[c], unit)
    for (backbone, c), unit in mirrored_units(plan).items():
        if unit in missing:
            yield FeaturesPiece(backbone, mirrored_chunks(plan)[c], unit, mirror=True)


STAGE = Stage(
    name="features",
    tables=("features", "mirrored"),
    made_from=("images",),
    units=_all,
    inputs=no_inputs(_all),
    settings=_settings,
    cost=_cost,
    pieces=_pieces,
)


# What a worker does


@dataclass(frozen=True)
class FeaturesPiece:
    """Features of some images on one backbone."""

    backbone: str
    images: tuple[int, ...]
    unit: Unit
    mirror: bool = False
    """Whether the images are turned left to right."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The one unit that it writes."""
        return (self.unit,)

    def compute(self, loaded: Loaded) -> Iterator[UnitRows]:
        """Run the backbone on the images."""
        inputs = loaded.inputs(self.backbone, self.images)
        if self.mirror:
            inputs = inputs[:, :, ::-1]
        features = loaded.evaluator(self.backbone).features(inputs).numpy()
        check_finite(features, f"features of the backbone {self.backbone}", loaded.ids(self.images))
        yield UnitRows(
            self.unit,
            {
                "pretraining": [self.backbone] * len(self.images),
                "image_id": loaded.ids(self.images),
                "features": lists(features),
            },
        )
