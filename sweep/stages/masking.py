"""The stage `masking`: what every model makes of every image masked by every source's map.

One backbone pass per source, level and image answers for all destinations on that backbone at once.

More than 300 lines: a stage stands in one file, and this one has the most to say.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.errors import WorkError
from sweep.keys import key_of
from sweep.numerics.finite import check_finite, fail_with
from sweep.numerics.masking import removed_count
from sweep.plan import Model, Plan
from sweep.stages import finetune, relevance
from sweep.stages.cost import FILE_BYTES, ROW_BYTES, Size, StageCost
from sweep.stages.loaded import Loaded, ModelRef, Reference
from sweep.stages.stage import Ranker, Rows, Stage, UnitRows, chunked, once_per_plan
from sweep.storage.schemas import MASKED_CELLS, SCHEMAS
from sweep.storage.store import Parts, Store, Unit
from sweep.study import Masking

CHUNK = 8 * relevance.CHUNK
"""Images per unit; a whole number of chunks of maps."""
BLOCK = 256
"""Destinations that one matrix product answers for, and that share a unit where only cells are kept."""

Place = tuple[str, str, int, int]
"""A unit's source, backbone, block of destinations and chunk of images."""


@once_per_plan
def chunks(plan: Plan) -> list[tuple[int, ...]]:
    """Image positions of each unit."""
    return chunked(plan.selected, CHUNK)


def map_chunks_of(plan: Plan, chunk: int) -> range:
    """Chunks of maps that hold the images of a chunk of masks."""
    per_chunk = CHUNK // relevance.CHUNK
    return range(chunk * per_chunk, min((chunk + 1) * per_chunk, len(relevance.chunks(plan))))


@once_per_plan
def random_sources(plan: Plan) -> list[str]:
    """Names of the random masks."""
    return [f"random-{k}" for k in range(1, plan.study.masking.random_masks + 1)]


@once_per_plan
def sources(plan: Plan) -> list[str]:
    """Names of everything that makes masks: the models, then the random masks."""
    return [*(model.id for model in plan.models), *random_sources(plan)]


@once_per_plan
def blocks(plan: Plan) -> Mapping[str, list[tuple[Model, ...]]]:
    """Models of each backbone, in blocks; those that failed keep their place, as a product's last bits depend on it."""
    found = {}
    for backbone in plan.backbones:
        own = [model for model in plan.models if model.cell.pretraining == backbone]
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
    settings = plan.study.masking.model_dump(exclude={"random_masks"})
    found = {}
    for c, chunk in enumerate(chunks(plan)):
        images = plan.image_keys(chunk)
        for source in sources(plan):
            made_by = _made_by(plan, source, c)
            if made_by is None:
                continue
            masks = key_of("masked", made_by, settings, images)
            for backbone, own in blocks(plan).items():
                for b, block in enumerate(own):
                    found[source, backbone, b, c] = tuple(
                        _unit(plan, source, f"{backbone}.{b:04d}", [block[i] for i in group], masks, c)
                        for group in groups(plan, block)
                    )
    return found


def _made_by(plan: Plan, source: str, chunk: int) -> list[str] | None:
    """What determines a source's masks of a chunk; None where the maps for it are among the plan's gaps."""
    if source in random_sources(plan):
        return [source]
    maps = relevance.units_of_chunks(plan, source, map_chunks_of(plan, chunk))
    return None if maps is None else [unit.key for unit in maps]


def _unit(plan: Plan, source: str, block: str, models: Sequence[Model], masks: str, c: int) -> Unit:
    cells = plan.study.masking.granularity == "cell"
    rows = len(plan.study.masking.percents) * (len(models) if cells else len(chunks(plan)[c]))
    key = key_of(masks, [model.key for model in models])
    return Unit("masked", f"{source}--{block if cells else models[0].id}.{c:04d}", key, rows)


def _inputs(plan: Plan) -> Iterator[tuple[Unit, tuple[Unit, ...]]]:
    for (source, backbone, b, c), own in units(plan).items():
        block = blocks(plan)[backbone][b]
        made = source not in random_sources(plan)
        maps = relevance.units_of_chunks(plan, source, map_chunks_of(plan, c)) if made else ()
        for group, unit in zip(groups(plan, block), own, strict=True):
            yield unit, (*(finetune.model_units(plan)[block[i].id] for i in group), *(maps or ()))


def _cost(size: Size) -> StageCost:
    mask_chunks = ceil(size.mapped / CHUNK)
    in_blocks = size.backbones * ceil(size.models / size.backbones / BLOCK)
    count = size.sources * (in_blocks if size.cells else size.models) * mask_chunks
    evaluated = size.sources * size.partial_levels * size.mapped
    passes = size.backbones * evaluated
    row_bytes = ROW_BYTES["cells"] * mask_chunks if size.cells else ROW_BYTES["masked"] * size.mapped
    return StageCost(
        "masking",
        count,
        passes,
        passes * size.mean_flops,
        size.models * evaluated * size.readout_flops,
        size.sources * size.models * size.levels * row_bytes + count * FILE_BYTES,
    )


def _pieces(plan: Plan, store: Store, missing: set[Unit], ranker: Ranker) -> Iterator["MaskedPiece"]:
    """A source's pixels are ranked once, when its first piece is drawn, for all backbones."""
    masking = plan.study.masking
    relatives = store.relatives(missing)
    settings = masking.model_dump(exclude={"random_masks", "percents"})
    for c, chunk in enumerate(chunks(plan)):
        for source in sources(plan):
            made_by, ranks = _made_by(plan, source, c), None
            if made_by is None:
                continue
            base = key_of("masked parts", made_by, settings, plan.image_keys(chunk))
            for backbone in plan.backbones:
                wanted = tuple(_blocks(plan, source, backbone, c, missing, relatives))
                if not wanted:
                    continue
                if ranks is None and source in random_sources(plan):
                    keys = [plan.images.keys[index] for index in chunk]
                    ranks = ranker.of_random(source, keys, plan.study.dataset.input_size**2)
                elif ranks is None:
                    maps = [relevance.units(plan)[source, m] for m in map_chunks_of(plan, c)]
                    ranks = ranker.of_maps(store, maps, masking.order)
                yield MaskedPiece(source, ranks, backbone, chunk, masking, wanted, base)


def _blocks(
    plan: Plan,
    source: str,
    backbone: str,
    chunk: int,
    missing: set[Unit],
    relatives: Mapping[Unit, tuple[str, ...]],
) -> Iterator["Block"]:
    """The blocks of which anything is missing: whole, because a product's last bits depend on its width."""
    for b, block in enumerate(blocks(plan)[backbone]):
        own = zip(groups(plan, block), units(plan)[source, backbone, b, chunk], strict=True)
        wanted = tuple(Destinations(group, unit, relatives[unit]) for group, unit in own if unit in missing)
        if wanted:
            yield Block(tuple(finetune.refer(plan, model) for model in block), wanted)


STAGE = Stage(
    name="masking",
    tables=("masked",),
    made_from=("finetune", "relevance"),
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
    """One source's masks on the inputs of all destinations that share a backbone."""

    source: str
    ranks: Reference
    """Order in which the source's pixels are removed, int32 (image, pixel)."""
    backbone: str
    images: tuple[int, ...]
    masking: Masking
    blocks: tuple[Block, ...]
    base: str
    """Key of what all rows share: the source's maps, the images and the settings but for the percents."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units that it writes."""
        return tuple(wanted.unit for block in self.blocks for wanted in block.wanted)

    def compute(self, loaded: Loaded) -> Iterator[UnitRows]:
        """Pass the masked images through the backbone at every level that no stored unit holds already."""
        percents = self.masking.percents
        wanted = [(block, one) for block in self.blocks for one in block.wanted]
        parts = {one.unit: self._parts(block, one) for block, one in wanted}
        stored = {
            one.unit: loaded.store.stored_parts(one.unit, parts[one.unit], one.relatives) for _, one in wanted
        }
        levels = sorted(
            {
                level
                for _, one in wanted
                for level in range(len(percents))
                if any((place, level) not in stored[one.unit] for place in range(len(one.positions)))
            }
        )
        features = self._features(loaded, [percents[level] for level in levels])
        cells = self.masking.granularity == "cell"
        schema = MASKED_CELLS if cells else SCHEMAS["masked"]
        rows_of = self._cell if cells else self._image_rows
        problems: list[str] = []
        for block in self.blocks:
            # By level: (destination, image, class), one matrix product for all destinations.
            logits = {}
            if levels:
                readouts = loaded.readouts(block.destinations)
                logits = {level: readouts.logits(one) for level, one in zip(levels, features, strict=True)}
            for one in block.wanted:
                tables = []
                try:
                    for place, position in enumerate(one.positions):
                        model = block.destinations[position]
                        for level, percent in enumerate(percents):
                            rows = stored[one.unit].get((place, level))
                            if rows is None:
                                computed = rows_of(loaded, percent, model, logits[level][position])
                                rows = pa.table(dict(computed)).cast(schema)
                            tables.append(rows)
                except WorkError as problem:  # costs this unit, and no other
                    problems.append(str(problem))
                    continue
                yield UnitRows(one.unit, pa.concat_tables(tables), parts[one.unit])
        fail_with(problems)

    def _parts(self, block: Block, wanted: Destinations) -> Parts:
        keys = tuple(block.destinations[position].key for position in wanted.positions)
        return Parts(self.base, keys, tuple(repr(float(percent)) for percent in self.masking.percents))

    def _image_rows(self, loaded: Loaded, percent: float, model: ModelRef, logits: Any) -> Rows:
        self._check(loaded, model, logits)
        targets, predicted = loaded.targets(model, self.images), logits.argmax(axis=1)
        return {
            "source_id": [self.source] * len(logits),
            "destination_id": [model.id] * len(logits),
            "percent": np.full(len(logits), percent, np.float64),
            "image_id": loaded.ids(self.images),
            "predicted_class": loaded.classes(model)[predicted],
            "correct": predicted == targets,
            "target_logit": logits[np.arange(len(logits)), targets],
        }

    def _check(self, loaded: Loaded, model: ModelRef, logits: Any) -> None:
        check_finite(
            logits, f"logits of the model {model.id}, masked by {self.source}", loaded.ids(self.images)
        )

    def _cell(self, loaded: Loaded, percent: float, model: ModelRef, logits: Any) -> Rows:
        self._check(loaded, model, logits)
        return {
            "source_id": [self.source],
            "destination_id": [model.id],
            "percent": [float(percent)],
            "n": np.asarray([len(logits)], np.int32),
            "correct": np.asarray(
                [(logits.argmax(axis=1) == loaded.targets(model, self.images)).sum()], np.int32
            ),
        }

    def _features(self, loaded: Loaded, percents: Sequence[float]) -> list[Any]:
        """Features (image, feature) at some levels; those no mask can change are computed once for all sources."""
        if not percents:
            return []
        ranks = loaded.get(self.ranks)
        pixels = ranks.shape[1]
        counts = [removed_count(percent, pixels) for percent in percents]
        levels: dict[int, Any] = {}
        if 0 in counts:
            levels[0] = loaded.unmasked(self.backbone, self.images)
        if pixels in counts:
            levels[pixels] = loaded.all_removed(self.backbone, self.images, self.masking.fill)
        partial = sorted(set(counts) - set(levels))
        if partial:
            computed = loaded.evaluator(self.backbone).masked_features(
                loaded.inputs(self.backbone, self.images),
                loaded.replacement(self.backbone, self.images, self.masking.fill),
                ranks,
                partial,
            )
            levels |= dict(zip(partial, computed, strict=True))
        return [levels[count] for count in counts]
