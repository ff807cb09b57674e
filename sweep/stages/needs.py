"""What each unit of work is made from: the stored units that must be there before it can be computed."""

from collections.abc import Iterator, Mapping, Sequence, Set

from sweep.plan import STAGES, Plan
from sweep.storage.store import Unit

MADE_FROM: Mapping[str, tuple[str, ...]] = {
    "images": (),
    "features": ("images",),
    "finetune": ("features",),
    "predictions": ("features", "finetune"),
    "relevance": ("finetune",),
    "similarity": ("relevance",),
    "masking": ("finetune", "relevance"),
}
"""The stages whose units each stage reads (the images are read from their source, and named by `images`)."""


def stages_from(stage: str) -> list[str]:
    """`stage` and every stage that is made from it, directly or not, in order."""
    found = {stage}
    for later in STAGES:
        if found & set(MADE_FROM[later]):
            found.add(later)
    return [name for name in STAGES if name in found]


def needs(plan: Plan, stage: str) -> Iterator[tuple[Unit, tuple[Unit, ...]]]:
    """Every unit that `stage` writes, with the units it reads."""
    chunks = range(len(plan.feature_chunks))
    features = {
        model.id: tuple(plan.feature_units[model.cell.pretraining, c] for c in chunks)
        for model in plan.models
    }
    match stage:
        case "finetune":
            for model in plan.models:
                for unit in (plan.epoch_units[model.id], plan.model_units[model.id]):
                    yield unit, features[model.id]
        case "predictions":
            for model_id, unit in plan.prediction_units.items():
                yield unit, (plan.model_units[model_id], *features[model_id])
        case "relevance":
            for (model_id, _), unit in plan.relevance_units.items():
                yield unit, (plan.model_units[model_id],)
        case "similarity":
            order = [model.id for model in plan.models]
            for (model_id, c), unit in plan.similarity_units.items():
                upto = order[: order.index(model_id) + 1]
                yield unit, tuple(plan.relevance_units[other, c] for other in upto)
        case "masking":
            for (source, backbone, b, c), units in plan.masked_units.items():
                block = plan.destination_blocks[backbone][b]
                made = source not in plan.random_sources
                maps = [plan.relevance_units[source, m] for m in plan.map_chunks_of(c)] if made else []
                for group, unit in zip(plan.groups(block), units, strict=True):
                    yield unit, (*(plan.model_units[block[i].id] for i in group), *maps)
        case _:
            for unit in plan.units(stage):
                yield unit, ()


def can_be_made(
    plan: Plan, stage: str, missing: Sequence[Unit], absent: Set[Unit]
) -> tuple[list[Unit], list[Unit]]:
    """Split the `missing` units of a stage into those that can be computed and those that wait for `absent` ones."""
    if not absent:
        return list(missing), []
    waiting = {unit for unit, inputs in needs(plan, stage) if not absent.isdisjoint(inputs)}
    return [unit for unit in missing if unit not in waiting], [unit for unit in missing if unit in waiting]
