"""The stage `masking`: what every model makes of every image masked by every source's map, and by its controls.

One backbone pass per mask, fill, level and image answers for all destinations on that backbone at once.

More than 300 lines: a stage stands in one file, and this one has the most to say.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.errors import WorkError
from sweep.keys import key_of
from sweep.numerics.controls import other_image
from sweep.numerics.finite import check_finite, fail_with
from sweep.numerics.masking import Ranking, removed_count
from sweep.plan import Model, Plan
from sweep.stages import attributions, finetune, randomized, relevance
from sweep.stages.cost import FILE_BYTES, LINEAR_FLOPS, ROW_BYTES, Size, StageCost
from sweep.stages.loaded import Loaded, ModelRef, Reference
from sweep.stages.stage import Ranker, Rows, Stage, UnitRows, chunked, once_per_plan
from sweep.storage.schemas import masked_columns
from sweep.storage.store import Parts, Store, Unit
from sweep.study import SOURCELESS, Masking

CHUNK = 8 * relevance.CHUNK
"""Images per unit; a whole number of chunks of maps."""
BLOCK = 256
"""Destinations that one matrix product answers for, and that share a unit where only cells are kept."""

OWN = "none"
"""The control of what is no control: a mask by the source's map of the very image."""


@dataclass(frozen=True)
class Mask:
    """A way to mask every image: by a model's map of it, or by a control."""

    source: str
    """The model; 'random-k' or 'blocks-k' where none is asked."""
    control: str = OWN
    draw: int = 1
    attribution: str = ""
    """Level of the factor attribution that its maps are of; none for the study's own relevance, and where there are none."""

    @property
    def name(self) -> str:
        """Tells it from all others."""
        made = self.control == OWN or self.control in SOURCELESS
        by = f"{self.source}.{self.attribution}" if self.attribution else self.source
        return by if made else f"{by}.{self.control}-{self.draw}"

    @property
    def table(self) -> str:
        """The table that what becomes of masked images is stored in."""
        return "masked_attributions" if self.attribution else "masked"

    @property
    def of_model(self) -> bool:
        """Whether it is made from a model's maps."""
        return self.control not in SOURCELESS


Place = tuple[Mask, str, int, int]
"""A unit's mask, backbone, block of destinations and chunk of images."""


@once_per_plan
def chunks(plan: Plan) -> list[tuple[int, ...]]:
    """Image positions of each unit."""
    return chunked(plan.selected, CHUNK)


def map_chunks_of(plan: Plan, chunk: int) -> range:
    """Chunks of maps that hold the images of a chunk of masks."""
    per_chunk = CHUNK // relevance.CHUNK
    return range(chunk * per_chunk, min((chunk + 1) * per_chunk, len(relevance.chunks(plan))))


@once_per_plan
def masks(plan: Plan) -> list[Mask]:
    """All masks: each model's own with its controls, by one attribution after the other, then those without a source.

    The control `randomized` has maps of the study's own relevance only.
    """
    controls = plan.study.masking.drawn_controls
    found = []
    for model in plan.models:
        found.append(Mask(model.id))
        found += [Mask(model.id, control, draw) for control, draw in controls if control not in SOURCELESS]
    for level in attributions.levels(plan):
        for model in plan.models:
            found.append(Mask(model.id, attribution=level))
            found += [
                Mask(model.id, control, draw, level)
                for control, draw in controls
                if control not in SOURCELESS and control != randomized.CONTROL
            ]
    found += [
        Mask(f"{SOURCELESS[control]}-{draw}", control, draw)
        for control, draw in controls
        if control in SOURCELESS
    ]
    return found


@once_per_plan
def random_sources(plan: Plan) -> list[str]:
    """Names of the random orders of the pixels."""
    return [mask.source for mask in masks(plan) if mask.control == "scattered"]


@once_per_plan
def _partners(plan: Plan) -> Callable[[str, int, int], tuple[int, ...]]:
    """For a source, a draw and a chunk: for each image of the chunk, the place among the selected images of another one.

    Both are of different classes of the source's task. The other one is of the same chunk unless that has one class only,
    so that few maps are read.
    """
    keys = [key for _, key in plan.image_keys(plan.selected)]

    @cache
    def found(source: str, draw: int, chunk: int) -> tuple[int, ...]:
        labels = np.asarray(plan.model[source].labels)[list(plan.selected)]
        own = np.arange(chunk * CHUNK, chunk * CHUNK + len(chunks(plan)[chunk]))
        pool = own if len(set(labels[own])) > 1 else np.arange(len(labels))
        drawn = pool[other_image(source, [keys[place] for place in pool], labels[pool], draw)]
        return tuple(drawn[np.isin(pool, own)].tolist())

    return found


@once_per_plan
def blocks(plan: Plan) -> Mapping[str, list[tuple[Model, ...]]]:
    """Models of each backbone, in blocks; those that failed keep their place, as a product's last bits depend on it."""
    found = {}
    for backbone in plan.backbones:
        own = [model for model in plan.models if model.backbone == backbone]
        found[backbone] = [tuple(own[i] for i in block) for block in chunked(range(len(own)), BLOCK)]
    return found


def groups(plan: Plan, block: Sequence[Model]) -> list[tuple[int, ...]]:
    """Positions in a block of the destinations that share a unit: all that are there where only cells are kept.

    They are in order of seed and name there, so that the order of levels in the study file makes no difference.
    """
    there = [position for position, model in enumerate(block) if model.id not in plan.gaps.models]
    if plan.study.masking.granularity == "cell":
        there.sort(key=lambda position: (block[position].cell.seed, block[position].id))
        return [tuple(there)] if there else []
    return [(position,) for position in there]


@once_per_plan
def units(plan: Plan) -> Mapping[Place, tuple[Unit, ...]]:
    """Units by place, one per group of the block's destinations.

    Where only cells are kept, a further model on a backbone renews the backbone's last block, which costs no pass more:
    the new model needs the same ones.
    """
    settings = plan.study.masking.model_dump(exclude={"controls", "control_draws"})
    found = {}
    for c, chunk in enumerate(chunks(plan)):
        images = plan.image_keys(chunk)
        for mask in masks(plan):
            made_by = _made_by(plan, mask, c)
            if made_by is None:
                continue
            masked = key_of("masked", made_by, settings, images)
            for backbone, own in blocks(plan).items():
                for b, block in enumerate(own):
                    found[mask, backbone, b, c] = tuple(
                        _unit(plan, mask, f"{backbone}.{b:04d}", [block[i] for i in group], masked, c)
                        for group in groups(plan, block)
                    )
    return found


def _maps(plan: Plan, mask: Mask, chunk: int) -> tuple[Unit, ...] | None:
    """The maps that a mask is made from; None where some are among the plan's gaps."""
    if not mask.of_model:
        return ()
    wanted = map_chunks_of(plan, chunk)
    if mask.control == randomized.CONTROL:
        return randomized.units_of_chunks(plan, mask.source, mask.draw, wanted)
    if mask.control == "other_image":
        first = chunk * CHUNK
        partners = _partners(plan)(mask.source, mask.draw, chunk)
        if any(not first <= partner < first + CHUNK for partner in partners):
            wanted = range(len(relevance.chunks(plan)))
    if mask.attribution:
        return attributions.units_of_chunks(plan, mask.source, mask.attribution, wanted)
    return relevance.units_of_chunks(plan, mask.source, wanted)


def _made_by(plan: Plan, mask: Mask, chunk: int) -> list[Any] | None:
    """What determines a mask of a chunk; None where the maps for it are among the plan's gaps."""
    maps = _maps(plan, mask, chunk)
    if maps is None:
        return None
    partners: list[str] = []
    if mask.control == "other_image":
        places = _partners(plan)(mask.source, mask.draw, chunk)
        partners = [key for _, key in plan.image_keys([plan.selected[place] for place in places])]
    return [mask.name, partners, [unit.key for unit in maps]]


def _unit(plan: Plan, mask: Mask, block: str, models: Sequence[Model], masked: str, c: int) -> Unit:
    masking = plan.study.masking
    cells = masking.granularity == "cell"
    rows = len(masking.fills) * len(masking.percents) * (len(models) if cells else len(chunks(plan)[c]))
    key = key_of(masked, [model.key for model in models])
    return Unit(mask.table, f"{mask.name}--{block if cells else models[0].id}.{c:04d}", key, rows)


def _inputs(plan: Plan) -> Iterator[tuple[Unit, tuple[Unit, ...]]]:
    for (mask, backbone, b, c), own in units(plan).items():
        block = blocks(plan)[backbone][b]
        maps = _maps(plan, mask, c) or ()
        for group, unit in zip(groups(plan, block), own, strict=True):
            yield unit, (*(finetune.model_units(plan)[block[i].id] for i in group), *maps)


def _cost(size: Size) -> StageCost:
    mask_chunks = ceil(size.mapped / CHUNK)
    in_blocks = size.backbones * ceil(size.models / size.backbones / BLOCK)
    count = size.masks * (in_blocks if size.cells else size.models) * mask_chunks
    evaluated = size.masks * size.partial_levels * size.mapped * size.fills
    passes = size.backbones * evaluated
    imputed = passes / size.fills * size.linear * size.pixels * LINEAR_FLOPS
    row_bytes = ROW_BYTES["cells"] * mask_chunks if size.cells else ROW_BYTES["masked"] * size.mapped
    return StageCost(
        "masking",
        count,
        passes,
        passes * size.mean_flops + imputed + size.models * evaluated * size.head_flops,
        size.models * evaluated * size.readout_flops,
        size.masks * size.models * size.levels * size.fills * row_bytes + count * FILE_BYTES,
    )


def _pieces(plan: Plan, store: Store, missing: set[Unit], ranker: Ranker) -> Iterator["MaskedPiece"]:
    """A mask's pixels are ranked once, when its first piece is drawn, for all backbones."""
    masking = plan.study.masking
    relatives = store.relatives(missing)
    settings = masking.model_dump(exclude={"controls", "control_draws", "percents", "fills"})
    for c, chunk in enumerate(chunks(plan)):
        for mask in masks(plan):
            made_by, ranks = _made_by(plan, mask, c), None
            if made_by is None:
                continue
            base = key_of("masked parts", made_by, settings, plan.image_keys(chunk))
            for backbone in plan.backbones:
                wanted = tuple(_blocks(plan, mask, backbone, c, missing, relatives))
                if not wanted:
                    continue
                if ranks is None:
                    ranks = _ranks(plan, store, mask, c, ranker)
                yield MaskedPiece(mask, ranks, backbone, chunk, masking, wanted, base)


def _ranks(plan: Plan, store: Store, mask: Mask, chunk: int, ranker: Ranker) -> Reference:
    maps = _maps(plan, mask, chunk)
    if not maps:
        keys = [plan.images.keys[index] for index in chunks(plan)[chunk]]
        return ranker.of_random(mask.source, mask.control, keys, plan.study.dataset.input_size)
    rows: tuple[int, ...] = ()
    if mask.control == "other_image":
        first = 0 if len(maps) > len(map_chunks_of(plan, chunk)) else chunk * CHUNK
        rows = tuple(place - first for place in _partners(plan)(mask.source, mask.draw, chunk))
    ranking = Ranking(
        plan.study.masking.order,
        plan.study.masking.regions,
        mean_map=mask.control == "mean_map",
        reverse=mask.control == "reversed",
        rows=rows,
        drawn_for=mask.name if mask.control == randomized.CONTROL else "",
    )
    return ranker.of_maps(store, maps, ranking)


def _blocks(
    plan: Plan,
    mask: Mask,
    backbone: str,
    chunk: int,
    missing: set[Unit],
    relatives: Mapping[Unit, tuple[str, ...]],
) -> Iterator["Block"]:
    """The blocks of which anything is missing: whole, because a product's last bits depend on its width."""
    for b, block in enumerate(blocks(plan)[backbone]):
        own = zip(groups(plan, block), units(plan)[mask, backbone, b, chunk], strict=True)
        wanted = tuple(Destinations(group, unit, relatives[unit]) for group, unit in own if unit in missing)
        if wanted:
            yield Block(tuple(finetune.refer(plan, model) for model in block), wanted)


STAGE = Stage(
    name="masking",
    tables=("masked", "masked_attributions"),
    made_from=("finetune", "relevance", "randomized", "attributions"),
    units=lambda plan: [unit for own in units(plan).values() for unit in own],
    inputs=_inputs,
    settings=lambda plan: {"masking": plan.study.model_dump(mode="json")["masking"]},
    cost=_cost,
    pieces=_pieces,
    in_parts=True,
)


# What a worker does


@dataclass(frozen=True)
class Destinations:
    """A unit to write."""

    positions: tuple[int, ...]
    """Its destinations' places in their block."""
    unit: Unit
    relatives: tuple[str, ...]
    """Stored files that may hold some of its levels."""


@dataclass(frozen=True)
class Block:
    """Destinations that one matrix product answers for."""

    destinations: tuple[ModelRef, ...]
    wanted: tuple[Destinations, ...]


@dataclass(frozen=True)
class MaskedPiece:
    """One mask on the inputs of all destinations that share a backbone."""

    mask: Mask
    ranks: Reference
    """Order in which its pixels are removed, int32 (image, pixel)."""
    backbone: str
    images: tuple[int, ...]
    masking: Masking
    blocks: tuple[Block, ...]
    base: str
    """Key of what all rows share: the mask's maps, the images and the settings but for percents and fills."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units that it writes."""
        return tuple(wanted.unit for block in self.blocks for wanted in block.wanted)

    def compute(self, loaded: Loaded) -> Iterator[UnitRows]:
        """Pass the masked images through the backbone at every level that no stored unit holds already."""
        tried = self._tried
        wanted = [(block, one) for block in self.blocks for one in block.wanted]
        parts = {one.unit: self._parts(block, one) for block, one in wanted}
        stored = {
            one.unit: loaded.store.stored_parts(one.unit, parts[one.unit], one.relatives) for _, one in wanted
        }
        levels = sorted(
            {
                level
                for _, one in wanted
                for level in range(len(tried))
                if any((place, level) not in stored[one.unit] for place in range(len(one.positions)))
            }
        )
        features = self._features(loaded, [tried[level] for level in levels])
        cells = self.masking.granularity == "cell"
        schema = masked_columns(self.mask.table, cells=cells)
        rows_of = self._cell if cells else self._image_rows
        problems: list[str] = []
        for block in self.blocks:
            # By level: (destination, image, class), for readouts by one matrix product for all destinations.
            logits = {}
            if levels:
                answered = loaded.readouts(block.destinations).of_levels(features)
                logits = dict(zip(levels, answered, strict=True))
            for one in block.wanted:
                tables = []
                try:
                    for place, position in enumerate(one.positions):
                        model = block.destinations[position]
                        for level, (fill, percent) in enumerate(tried):
                            rows = stored[one.unit].get((place, level))
                            if rows is None:
                                computed = rows_of(loaded, fill, percent, model, logits[level][position])
                                rows = pa.table(dict(computed)).cast(schema)
                            tables.append(rows)
                except WorkError as problem:  # costs this unit, and no other
                    problems.append(str(problem))
                    continue
                yield UnitRows(one.unit, pa.concat_tables(tables), parts[one.unit])
        fail_with(problems)

    def _parts(self, block: Block, wanted: Destinations) -> Parts:
        keys = tuple(block.destinations[position].key for position in wanted.positions)
        return Parts(self.base, keys, tuple(f"{fill} {float(percent)!r}" for fill, percent in self._tried))

    @property
    def _tried(self) -> list[tuple[str, float]]:
        """Every fill at every percent."""
        return [(fill, percent) for fill in self.masking.fills for percent in self.masking.percents]

    def _image_rows(self, loaded: Loaded, fill: str, percent: float, model: ModelRef, logits: Any) -> Rows:
        self._check(loaded, model, logits)
        targets, predicted = loaded.targets(model, self.images), logits.argmax(axis=1)
        return {
            **self._of_source(len(logits)),
            "control": [self.mask.control] * len(logits),
            "draw": np.full(len(logits), self.mask.draw, np.int32),
            "fill": [fill] * len(logits),
            "destination_id": [model.id] * len(logits),
            "percent": np.full(len(logits), percent, np.float64),
            "image_id": loaded.ids(self.images),
            "predicted_class": loaded.classes(model)[predicted],
            "correct": predicted == targets,
            "target_logit": logits[np.arange(len(logits)), targets],
        }

    def _of_source(self, rows: int) -> Rows:
        named = {"source_id": [self.mask.source] * rows}
        return named | ({"attribution": [self.mask.attribution] * rows} if self.mask.attribution else {})

    def _check(self, loaded: Loaded, model: ModelRef, logits: Any) -> None:
        check_finite(
            logits, f"logits of the model {model.id}, masked by {self.mask.name}", loaded.ids(self.images)
        )

    def _cell(self, loaded: Loaded, fill: str, percent: float, model: ModelRef, logits: Any) -> Rows:
        self._check(loaded, model, logits)
        return {
            **self._of_source(1),
            "control": [self.mask.control],
            "draw": np.asarray([self.mask.draw], np.int32),
            "fill": [fill],
            "destination_id": [model.id],
            "percent": [float(percent)],
            "n": np.asarray([len(logits)], np.int32),
            "correct": np.asarray(
                [(logits.argmax(axis=1) == loaded.targets(model, self.images)).sum()], np.int32
            ),
        }

    def _features(self, loaded: Loaded, levels: Sequence[tuple[str, float]]) -> list[Any]:
        """Features (image, feature) at some levels; those no mask can change are computed once for all masks."""
        if not levels:
            return []
        ranks = loaded.get(self.ranks)
        pixels = ranks.shape[1]
        places = [(fill, removed_count(percent, pixels)) for fill, percent in levels]
        found: dict[tuple[str, int], Any] = {}
        for fill, count in dict.fromkeys(places):
            if count == 0:
                found[fill, count] = loaded.unmasked(self.backbone, self.images)
            elif count == pixels:
                found[fill, count] = loaded.all_removed(self.backbone, self.images, fill)
        evaluator = loaded.evaluator(self.backbone)
        for fill in dict.fromkeys(fill for fill, _ in places):
            partial = sorted({count for own, count in places if own == fill and (fill, count) not in found})
            if partial:
                computed = evaluator.masked_features(
                    loaded.inputs(self.backbone, self.images),
                    loaded.replacement(self.backbone, self.images, fill, self.mask.name),
                    ranks,
                    partial,
                )
                found |= {(fill, count): one for count, one in zip(partial, computed, strict=True)}
        return [found[place] for place in places]
