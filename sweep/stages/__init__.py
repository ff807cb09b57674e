"""The stages of a study, in their order; each is a file that says what it writes, from what, how, and at what cost."""

from collections.abc import Collection, Iterator, Mapping, Set

import pyarrow as pa

from sweep.keys import key_of
from sweep.plan import Gaps, Plan
from sweep.stages import (
    attributions,
    features,
    finetune,
    images,
    masking,
    predictions,
    randomized,
    relevance,
    similarity,
)
from sweep.stages.cost import Size, StageCost
from sweep.stages.stage import Stage
from sweep.storage.index import index_of
from sweep.storage.schemas import SCHEMAS, masked_columns, with_extra
from sweep.storage.store import Unit

STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        images.STAGE,
        features.STAGE,
        finetune.STAGE,
        predictions.STAGE,
        relevance.STAGE,
        randomized.STAGE,
        attributions.STAGE,
        similarity.STAGE,
        masking.STAGE,
    )
}
"""The stages by name."""


def stages_of(plan: Plan) -> dict[str, Stage]:
    """The stages that a study has, by name: `randomized` and `attributions` only where they are asked for."""
    asked = {randomized.CONTROL: randomized.draws(plan), attributions.TABLE: attributions.levels(plan)}
    return {name: stage for name, stage in STAGES.items() if asked.get(name, True)}


def stages_from(stage: str) -> list[str]:
    """`stage` and every stage that is made from it, directly or not, in order."""
    found = {stage}
    for later in STAGES.values():
        if found & set(later.made_from):
            found.add(later.name)
    return [name for name in STAGES if name in found]


def all_units(plan: Plan) -> list[Unit]:
    """Every unit of a study."""
    return [unit for stage in STAGES.values() for unit in stage.units(plan)]


def rows_of_tables(plan: Plan) -> dict[str, int]:
    """Rows that each table will have."""
    total: dict[str, int] = {}
    for unit in all_units(plan):
        total[unit.table] = total.get(unit.table, 0) + unit.rows
    return total


def columns_of(plan: Plan, table: str) -> pa.Schema:
    """Columns of a table in this study."""
    if table == "images":
        return plan.images.table.schema
    if table == "models":
        return with_extra("models", list(plan.study.factors.extra))
    if table in ("masked", "masked_attributions"):
        return masked_columns(table, cells=plan.study.masking.granularity == "cell")
    return SCHEMAS[table]


def key_of_study(plan: Plan) -> str:
    """Key of a whole study: the same only if every unit is the same."""
    return key_of([sorted(unit.key for unit in stage.units(plan)) for stage in stages_of(plan).values()])


def index_of_study(plan: Plan) -> bytes:
    """The index of a study: the files of all its units, and the settings that its queries start from."""
    analysis = plan.study.analysis
    settings: dict[str, int | str] = {"draws": analysis.draws, "draw_seed": analysis.draw_seed}
    if plan.study.factors.attribution:
        settings["attributions"] = ",".join(plan.study.factors.attribution)
    return index_of((unit.path for unit in all_units(plan)), settings)


def stage_costs(size: Size) -> list[StageCost]:
    """The cost of every stage, in order."""
    return [stage.cost(size) for stage in STAGES.values()]


def with_gaps(plan: Plan, missing: Collection[Unit]) -> Plan:
    """The plan of what can be made while the `missing` units of models and maps are not to be had."""
    absent = set(missing)
    models = {name for name, unit in finetune.model_units(plan).items() if unit in absent}
    maps = {place for place, unit in relevance.units(plan).items() if unit in absent}
    permuted = {place for place, unit in randomized.units(plan).items() if unit in absent}
    attributed = {place for place, unit in attributions.units(plan).items() if unit in absent}
    return plan.without(
        Gaps(
            plan.gaps.models | models,
            plan.gaps.maps | {place for place in maps if place[0] not in models},
            plan.gaps.randomized | {place for place in permuted if place[0] not in models},
            plan.gaps.attributions | {place for place in attributed if place[0] not in models},
        )
    )


def made_from(plan: Plan, units: Set[str]) -> Iterator[Unit]:
    """The units that others, given by their paths, are made from."""
    for stage in STAGES.values():
        for unit, inputs in stage.inputs(plan):
            if unit.path in units:
                yield from inputs
