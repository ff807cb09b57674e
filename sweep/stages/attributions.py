"""The stage `attributions`: maps of every model by each further level of the factor attribution.

A study has this stage only where `factors.attribution` names more than one level. The first level is what the stage
`relevance` makes, and its masks are those of the table `masked`; the further ones have tables of their own, so that whoever
reads `relevance` or `masked` and knows of no attribution sees one map per model and image. Models on one backbone share
whatever depends on the image alone.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from math import ceil
from typing import Any

from sweep.keys import key_of
from sweep.plan import Model, Plan
from sweep.stages import finetune, relevance
from sweep.stages.cost import FILE_BYTES, MAP_BYTES, Size, StageCost
from sweep.stages.relevance import RelevancePiece
from sweep.stages.stage import Ranker, Stage, once_per_plan
from sweep.storage.store import Store, Unit
from sweep.study import Attribution, LrpAttribution

TABLE = "attributions"
"""The table that the maps are for."""

Place = tuple[str, str, int]
"""A unit's model, level and chunk of images."""


def levels(plan: Plan) -> Mapping[str, Attribution]:
    """The levels after the first, by name; none where the study has not the factor."""
    return dict(list(plan.study.factors.attribution.items())[1:])


@once_per_plan
def units(plan: Plan) -> Mapping[Place, Unit]:
    """Units by place; the images of a chunk are those of `relevance`."""
    found = {}
    for model in plan.present:
        for name, level in levels(plan).items():
            settings = _settings(plan, level)
            for c, chunk in enumerate(relevance.chunks(plan)):
                key = key_of(TABLE, model.key, name, settings, plan.image_keys(chunk))
                found[model.id, name, c] = Unit(TABLE, f"{model.id}.{name}.{c:04d}", key, len(chunk))
    return found


def units_of_chunks(plan: Plan, model_id: str, level: str, wanted: range) -> tuple[Unit, ...] | None:
    """Units of a model's level and some chunks; None where the plan's gaps name one of them."""
    if any((model_id, level, c) in plan.gaps.attributions for c in wanted) or model_id in plan.gaps.models:
        return None
    return tuple(units(plan)[model_id, level, c] for c in wanted)


def _settings(plan: Plan, level: Attribution) -> dict[str, Any]:
    """What determines a level's maps, besides model and images."""
    own = level.model_dump(mode="json")
    if isinstance(level, LrpAttribution):
        own |= plan.study.relevance.model_dump(mode="json", include={"engine", "bias"})
    return own


def _inputs(plan: Plan) -> Iterator[tuple[Unit, tuple[Unit, ...]]]:
    for (model_id, _, _), unit in units(plan).items():
        yield unit, (finetune.model_units(plan)[model_id],)


def _cost(size: Size) -> StageCost:
    count = len(size.attributions) * size.models * ceil(size.mapped / relevance.CHUNK)
    passes = size.mapped * sum(
        # Deeper heads share nothing of it.
        (size.backbones + size.models * (1 - size.plain_share)) * per_image + size.models * per_map
        for per_image, per_map in size.attributions
    )
    written = len(size.attributions) * size.models * size.mapped * size.pixels * MAP_BYTES
    return StageCost(TABLE, count, passes, passes * size.mean_flops, bytes=written + count * FILE_BYTES)


def _unit(plan: Plan, level: str, model: Model, chunk: int) -> Unit:
    return units(plan)[model.id, level, chunk]


def _pieces(plan: Plan, store: Store, missing: set[Unit], ranker: Ranker) -> Iterator[RelevancePiece]:
    for name, level in levels(plan).items():
        yield from relevance.pieces_of(plan, missing, partial(_unit, plan, name), level=(name, level))


STAGE = Stage(
    name=TABLE,
    tables=(TABLE,),
    made_from=("finetune",),
    units=lambda plan: list(units(plan).values()),
    inputs=_inputs,
    settings=lambda plan: {name: _settings(plan, level) for name, level in levels(plan).items()},
    cost=_cost,
    pieces=_pieces,
)
