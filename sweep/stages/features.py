"""The stage `features`: what each frozen backbone makes of each image, computed once for all models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from sweep.keys import key_of
from sweep.numerics.finite import check_finite
from sweep.plan import Plan
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


def units_of_backbone(plan: Plan, pretraining: str) -> tuple[Unit, ...]:
    """Features of all images on one backbone."""
    return tuple(units(plan)[pretraining, c] for c in range(len(chunks(plan))))


def _all(plan: Plan) -> list[Unit]:
    return list(units(plan).values())


def _settings(plan: Plan) -> dict[str, object]:
    return {
        "backbones": {
            name: {
                "weights": backbone.source,
                "weights_key": backbone.weights.key,
                "preprocessing": backbone.weights.preprocessing.settings(),
            }
            for name, backbone in plan.backbones.items()
        }
    }


def _cost(size: Size) -> StageCost:
    count = size.backbones * ceil(size.images / CHUNK)
    passes = size.backbones * size.images
    written = size.images * sum(size.features) * FEATURE_BYTES + count * FILE_BYTES
    return StageCost("features", count, passes, passes * size.mean_flops, bytes=written)


def _pieces(plan: Plan, store: Store, missing: set[Unit], ranker: Ranker) -> Iterator["FeaturesPiece"]:
    for (backbone, c), unit in units(plan).items():
        if unit in missing:
            yield FeaturesPiece(backbone, chunks(plan)[c], unit)


STAGE = Stage(
    name="features",
    tables=("features",),
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

    @property
    def units(self) -> tuple[Unit, ...]:
        """The one unit that it writes."""
        return (self.unit,)

    def compute(self, loaded: Loaded) -> Iterator[UnitRows]:
        """Run the backbone on the images."""
        features = loaded.evaluator(self.backbone).features(loaded.inputs(self.backbone, self.images)).numpy()
        check_finite(features, f"features of the backbone {self.backbone}", loaded.ids(self.images))
        yield UnitRows(
            self.unit,
            {
                "pretraining": [self.backbone] * len(self.images),
                "image_id": loaded.ids(self.images),
                "features": lists(features),
            },
        )
