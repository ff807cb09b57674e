"""The pieces of work that a stage comes to: what is not stored yet, grouped so that models share what they can."""

from collections.abc import Callable, Iterator, Mapping

from sweep.actors.ranks import Rankers
from sweep.actors.work import Block, Features, Masked, ModelRef, Predictions, Relevance, Similarity, Work
from sweep.plan import Model, Plan
from sweep.storage.store import Store, Unit

SIMILARITY_MODELS = 16
"""Models per piece of similarities: all of their maps are held in memory at once."""

Pieces = Callable[[Plan, Store, set[Unit]], Iterator[Work]]


def _features(plan: Plan, store: Store, missing: set[Unit]) -> Iterator[Work]:
    for (backbone, c), unit in plan.feature_units.items():
        if unit in missing:
            yield Features(backbone, plan.feature_chunks[c], unit)


def _predictions(plan: Plan, store: Store, missing: set[Unit]) -> Iterator[Work]:
    for model_id, unit in plan.prediction_units.items():
        if unit in missing:
            backbone = plan.model[model_id].cell.pretraining
            features = tuple(plan.feature_units[backbone, c] for c in range(len(plan.feature_chunks)))
            yield Predictions(_refer(plan, plan.model[model_id]), features, unit)


def _relevance(plan: Plan, store: Store, missing: set[Unit]) -> Iterator[Work]:
    """Models that share a backbone share a piece, so that they share its forward pass.

    iNNvestigate shares nothing and starts a process for each model: there the pieces of a model follow each other.
    """
    settings = plan.study.relevance
    together = settings.engine == "sweep"
    for backbone in plan.backbones:
        own = [model for model in plan.models if model.cell.pretraining == backbone]
        for models in [own] if together else [[model] for model in own]:
            for c, chunk in enumerate(plan.map_chunks):
                wanted = [model for model in models if plan.relevance_units[model.id, c] in missing]
                if wanted:
                    yield Relevance(
                        backbone=backbone,
                        images=chunk,
                        models=tuple(_refer(plan, model) for model in wanted),
                        units=tuple(plan.relevance_units[model.id, c] for model in wanted),
                        engine=settings.engine,
                        composite=settings.composite,
                        bias=settings.bias,
                    )


def _similarity(plan: Plan, store: Store, missing: set[Unit]) -> Iterator[Work]:
    models = tuple(model.id for model in plan.models)
    for c, chunk in enumerate(plan.map_chunks):
        wanted = [
            (position, plan.similarity_units[model_id, c])
            for position, model_id in enumerate(models)
            if position and plan.similarity_units[model_id, c] in missing
        ]
        maps = tuple(plan.relevance_units[model_id, c] for model_id in models)
        for start in range(0, len(wanted), SIMILARITY_MODELS):
            yield Similarity(chunk, models, maps, tuple(wanted[start : start + SIMILARITY_MODELS]))


def _masking(plan: Plan, store: Store, missing: set[Unit]) -> Iterator[Work]:
    """One backbone pass per source, level and image answers for all destinations on that backbone.

    A source's pixels are ranked once, when its first piece is drawn, for all backbones.
    """
    masking = plan.study.masking
    absent = {unit.label for unit in store.missing(list(plan.model_units.values()))}
    rankers = Rankers()
    for c, chunk in enumerate(plan.mask_chunks):
        for source in plan.sources:
            ranks = None
            for backbone in plan.backbones:
                wanted = tuple(_blocks(plan, source, backbone, c, missing, absent))
                if not wanted:
                    continue
                if ranks is None and source in plan.random_sources:
                    keys = [plan.images.keys[index] for index in chunk]
                    ranks = rankers.of_random(source, keys, plan.study.dataset.input_size**2)
                elif ranks is None:
                    maps = [plan.relevance_units[source, m] for m in plan.map_chunks_of(c)]
                    ranks = rankers.of_maps(store, maps, masking.order)
                yield Masked(source, ranks, backbone, chunk, masking, wanted)


def _blocks(
    plan: Plan, source: str, backbone: str, chunk: int, missing: set[Unit], absent: set[str]
) -> Iterator[Block]:
    """The blocks of which anything is missing: whole, because a product's last bits depend on its width.

    So a destination that is `absent`, as its finetune failed, keeps its place.
    """
    for b, block in enumerate(plan.destination_blocks[backbone]):
        units = plan.masked_units[source, backbone, b, chunk]
        wanted = [own for own in zip(plan.groups(block), units, strict=True) if own[1] in missing]
        if wanted:
            destinations = (_refer(plan, model, stored=model.id not in absent) for model in block)
            yield Block(tuple(destinations), tuple(wanted))


def _refer(plan: Plan, model: Model, stored: bool = True) -> ModelRef:
    return ModelRef(model.id, model.cell.task, plan.model_units[model.id], stored)


PIECES: Mapping[str, Pieces] = {
    "features": _features,
    "predictions": _predictions,
    "relevance": _relevance,
    "similarity": _similarity,
    "masking": _masking,
}
"""How the missing units of each stage become pieces of work."""
