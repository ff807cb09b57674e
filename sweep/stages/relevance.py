"""The stage `relevance`: for each model and image a map of how much each pixel contributed to the true class's logit."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Literal

import numpy as np

from sweep.errors import WorkError
from sweep.keys import key_of
from sweep.numerics.finite import check_finite, fail_with
from sweep.plan import Model, Plan
from sweep.stages import finetune
from sweep.stages.cost import FILE_BYTES, MAP_BYTES, Size, StageCost
from sweep.stages.loaded import Loaded, ModelRef
from sweep.stages.stage import Ranker, Stage, UnitRows, chunked, once_per_plan
from sweep.storage.arrays import lists
from sweep.storage.store import Store, Unit
from sweep.study import Attribution, LrpAttribution

CHUNK = 32
"""Images per unit."""


@once_per_plan
def chunks(plan: Plan) -> list[tuple[int, ...]]:
    """Image positions of each unit."""
    return chunked(plan.selected, CHUNK)


@once_per_plan
def units(plan: Plan) -> Mapping[tuple[str, int], Unit]:
    """Units by model and chunk."""
    settings = plan.study.relevance.model_dump(exclude={"images"})
    found = {}
    for model in plan.present:
        for c, chunk in enumerate(chunks(plan)):
            key = key_of("relevance", model.key, settings, plan.image_keys(chunk))
            found[model.id, c] = Unit("relevance", f"{model.id}.{c:04d}", key, len(chunk))
    return found


def units_of_chunks(plan: Plan, model_id: str, wanted: range) -> tuple[Unit, ...] | None:
    """A model's units of some chunks; None where the plan's gaps name one of them."""
    if any((model_id, c) in plan.gaps.maps for c in wanted) or model_id in plan.gaps.models:
        return None
    return tuple(units(plan)[model_id, c] for c in wanted)


def _inputs(plan: Plan) -> Iterator[tuple[Unit, tuple[Unit, ...]]]:
    for (model_id, _), unit in units(plan).items():
        yield unit, (finetune.model_units(plan)[model_id],)


def _cost(size: Size) -> StageCost:
    return cost_of("relevance", size, 1)


def cost_of(stage: str, size: Size, times: int) -> StageCost:
    """The cost of a stage that maps every image `times` times for every model."""
    count = times * size.models * ceil(size.mapped / CHUNK)
    per_image = size.backbones * size.passes_per_image + size.models * size.passes_per_map
    passes = times * size.mapped * per_image
    in_heads = times * size.mapped * size.models * size.head_relevance_flops
    written = times * size.models * size.mapped * size.pixels * MAP_BYTES + count * FILE_BYTES
    return StageCost(stage, count, passes, passes * size.mean_flops + in_heads, bytes=written)


def _pieces(plan: Plan, store: Store, missing: set[Unit], ranker: Ranker) -> Iterator["RelevancePiece"]:
    yield from pieces_of(plan, missing, lambda model, c: units(plan)[model.id, c])


def pieces_of(
    plan: Plan,
    missing: set[Unit],
    unit_of: Callable[[Model, int], Unit],
    draw: int | None = None,
    level: tuple[str, Attribution] | None = None,
) -> Iterator["RelevancePiece"]:
    """Pieces of work for maps of all models, or, with a `draw`, of the models with their weights permuted.

    With a `level` of the factor attribution, its name first, they are made by that. `unit_of` names the unit of a model and a chunk of images; those that are `missing` are made. Models that share a
    backbone and are as deep share a piece, so that they share its forward pass. iNNvestigate shares nothing and starts a process for each
    model: there the pieces of a model follow each other.
    """
    settings = plan.study.relevance
    by = level[1] if level else None
    by_lrp = by is None or isinstance(by, LrpAttribution)
    together = settings.engine == "sweep" or not by_lrp
    for backbone in plan.backbones:
        own = [model for model in plan.present if model.backbone == backbone]
        depths: dict[tuple[int, ...], list[Model]] = {}
        for model in own:
            depths.setdefault(model.cell.finetune.hidden, []).append(model)
        for models in depths.values() if together else [[model] for model in own]:
            for c, chunk in enumerate(chunks(plan)):
                wanted = [model for model in models if unit_of(model, c) in missing]
                if wanted:
                    yield RelevancePiece(
                        backbone=backbone,
                        images=chunk,
                        models=tuple(finetune.refer(plan, model) for model in wanted),
                        units=tuple(unit_of(model, c) for model in wanted),
                        engine=settings.engine,
                        composite=by.composite if isinstance(by, LrpAttribution) else settings.composite,
                        bias=settings.bias,
                        permutation=None if draw is None else Permutation(plan.backbones[backbone].key, draw),
                        level=level,
                    )


STAGE = Stage(
    name="relevance",
    tables=("relevance",),
    made_from=("finetune",),
    units=lambda plan: list(units(plan).values()),
    inputs=_inputs,
    settings=lambda plan: {"relevance": plan.study.model_dump(mode="json")["relevance"]},
    cost=_cost,
    pieces=_pieces,
)


# What a worker does


@dataclass(frozen=True)
class Permutation:
    """Which permutation of the weights maps are made with (`sweep.numerics.permutation`)."""

    backbone_key: str
    """Draws the backbone's, so that all models on it share the permuted one; a model's key draws its readout's."""
    draw: int


@dataclass(frozen=True)
class RelevancePiece:
    """Maps of several models on one backbone for the same images."""

    backbone: str
    images: tuple[int, ...]
    models: tuple[ModelRef, ...]
    units: tuple[Unit, ...]
    """One per model."""
    engine: Literal["sweep", "innvestigate"]
    composite: str | dict[str, Any]
    bias: Literal["innvestigate", "split"]
    permutation: Permutation | None = None
    """None for the models as they are."""
    level: tuple[str, Attribution] | None = None
    """Name and method of a further level of the factor attribution; None for the study's own relevance."""

    def compute(self, loaded: Loaded) -> Iterator[UnitRows]:
        """Propagate the relevance of each model's true class to the pixels."""
        problems: list[str] = []
        for model, unit, (maps, logits) in zip(self.models, self.units, self._maps(loaded), strict=True):
            named = f"the model {model.id}"
            if self.permutation:
                named += f" with its weights permuted (draw {self.permutation.draw})"
            if self.level:
                named += f" by the attribution {self.level[0]}"
            try:
                check_finite(logits, f"logits of {named}", loaded.ids(self.images))
                check_finite(maps, f"maps of {named}", loaded.ids(self.images))
            except WorkError as problem:  # costs this model its maps, and no other
                problems.append(str(problem))
                continue
            targets = loaded.targets(model, self.images)
            peaks = np.abs(maps).max(axis=(1, 2))
            normalised = maps / np.where(peaks > 0, peaks, 1)[:, None, None]
            further: dict[str, Any] = {}
            if self.permutation:
                further["draw"] = np.full(len(maps), self.permutation.draw, np.int32)
            if self.level:
                further["attribution"] = [self.level[0]] * len(maps)
            yield UnitRows(
                unit,
                {
                    "model_id": [model.id] * len(maps),
                    **further,
                    "image_id": loaded.ids(self.images),
                    "target_class": loaded.classes(model)[targets],
                    "logit": logits[np.arange(len(maps)), targets],
                    "max_abs": peaks,
                    "height": [maps.shape[1]] * len(maps),
                    "width": [maps.shape[2]] * len(maps),
                    "map": lists(normalised.reshape(len(maps), -1)),
                },
            )
        fail_with(problems)

    def _maps(self, loaded: Loaded) -> Iterator[tuple[Any, Any]]:
        """Maps (image, height, width) and logits (image, class) of each model."""
        from sweep.lrp import Network, shared_relevance
        from sweep.models.network import joined
        from sweep.numerics.evaluation import Evaluator
        from sweep.numerics.head import trained_by

        inputs = loaded.inputs(self.backbone, self.images)
        network, heads = self._networks(loaded)
        targets = np.asarray([loaded.targets(model, self.images) for model in self.models])
        if self.level and not isinstance(self.level[1], LrpAttribution):
            from sweep.attribution.maps import attribution_maps
            from sweep.attribution.subject import Subject
            from sweep.models.network import split_last

            image_keys = [loaded.context.image_keys[index] for index in self.images]
            model_keys = [model.key for model in self.models]
            filled = partial(loaded.filled, self.backbone, self.images)
            if isinstance(
                heads[0], Network
            ):  # each continues the network in its own way, so they share nothing
                subjects = [
                    Subject(*split_last(joined(network, head)), inputs, own[None], image_keys, [key])
                    for head, own, key in zip(heads, targets, model_keys, strict=True)
                ]
            else:
                subjects = [Subject(network, heads, inputs, targets, image_keys, model_keys)]
            for subject in subjects:
                yield from zip(attribution_maps(self.level[1], subject, filled), subject.logits, strict=True)
        elif self.engine == "innvestigate":
            plain = self.permutation is None
            evaluator = loaded.evaluator(self.backbone) if plain else Evaluator(network)
            features = evaluator.features(inputs).numpy()
            for model, head, own in zip(self.models, heads, targets, strict=True):
                of = (model, self.permutation, self.level and self.level[0])
                maps = loaded.reference.maps(of, joined(network, head), self.composite, inputs, own)
                yield maps, trained_by(head).logits(features)
        else:
            yield from zip(
                *shared_relevance(
                    network,
                    heads,
                    inputs,
                    targets,
                    composite=self.composite,
                    bias=self.bias,
                    bounds=loaded.context.preprocessing[self.backbone].bounds,
                    return_logits=True,
                ),
                strict=True,
            )

    def _networks(self, loaded: Loaded) -> tuple[Any, list[Any]]:
        """The backbone, and the readout or head of each model; with their weights permuted where that is asked."""
        from sweep.numerics.head import layers_of

        heads = [layers_of(loaded.readout(model)) for model in self.models]
        if self.permutation is None:
            return loaded.network(self.backbone), heads
        from sweep.numerics.permutation import permuted_head

        draw = self.permutation.draw
        backbone = loaded.permuted_network(self.backbone, self.permutation.backbone_key, draw)
        return backbone, [
            permuted_head(head, model.key, draw) for model, head in zip(self.models, heads, strict=True)
        ]
