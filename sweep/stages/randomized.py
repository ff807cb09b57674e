"""The stage `randomized`: maps of every model with its weights permuted, several times, as a control of its own maps.

A study has this stage only where `masking.controls` names `randomized`. All layers are permuted at once, the end of the
cascade of Adebayo et al. (2018): nothing that was learned is left, and a map shows what the image and the architecture
alone bring about. Models on one backbone share its permutation, and with it the passes through it.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from sweep.keys import key_of
from sweep.plan import Model, Plan
from sweep.stages import finetune, relevance
from sweep.stages.cost import Size, StageCost
from sweep.stages.relevance import RelevancePiece
from sweep.stages.stage import Ranker, Stage, once_per_plan
from sweep.storage.store import Store, Unit

CONTROL = "randomized"
"""The control that the maps are for, and their table."""

Place = tuple[str, int, int]
"""A unit's model, draw and chunk of images."""


def draws(plan: Plan) -> list[int]:
    """Numbers of the draws, from 1; none where the control is not asked for."""
    return [draw for control, draw in plan.study.masking.drawn_controls if control == CONTROL]


def name_of(model_id: str, draw: int) -> str:
    """What a model with its weights permuted is called."""
    return f"{model_id}.{CONTROL}-{draw}"


@once_per_plan
def units(plan: Plan) -> Mapping[Place, Unit]:
    """Units by place; the images of a chunk are those of `relevance`."""
    settings = plan.study.relevance.model_dump(exclude={"images"})
    found = {}
    for model in plan.present:
        for draw in draws(plan):
            for c, chunk in enumerate(relevance.chunks(plan)):
                key = key_of(CONTROL, model.key, draw, settings, plan.image_keys(chunk))
                found[model.id, draw, c] = Unit(
                    CONTROL, f"{name_of(model.id, draw)}.{c:04d}", key, len(chunk)
                )
    return found


def units_of_chunks(plan: Plan, model_id: str, draw: int, wanted: range) -> tuple[Unit, ...] | None:
    """Units of a model's draw and some chunks; None where the plan's gaps name one of them."""
    if any((model_id, draw, c) in plan.gaps.randomized for c in wanted) or model_id in plan.gaps.models:
        return None
    return tuple(units(plan)[model_id, draw, c] for c in wanted)


def _inputs(plan: Plan) -> Iterator[tuple[Unit, tuple[Unit, ...]]]:
    for (model_id, _, _), unit in units(plan).items():
        yield unit, (finetune.model_units(plan)[model_id],)


def _cost(size: Size) -> StageCost:
    return relevance.cost_of(CONTROL, size, size.randomized)


def _unit(plan: Plan, draw: int, model: Model, chunk: int) -> Unit:
    return units(plan)[model.id, draw, chunk]


def _pieces(plan: Plan, store: Store, missing: set[Unit], ranker: Ranker) -> Iterator[RelevancePiece]:
    for draw in draws(plan):
        yield from relevance.pieces_of(plan, missing, partial(_unit, plan, draw), draw)


STAGE = Stage(
    name=CONTROL,
    tables=(CONTROL,),
    made_from=("finetune",),
    units=lambda plan: list(units(plan).values()),
    inputs=_inputs,
    settings=relevance.STAGE.settings,
    cost=_cost,
    pieces=_pieces,
)
