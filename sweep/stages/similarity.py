"""The stage `similarity`: how alike the maps of different models are, image by image, for every pair of models.

A unit holds the pairs of one model with the models of one condition that come before it. "Before" is by seed, then by
name, whatever the order in the study file: so a further seed, level or factor adds units and leaves the others as they
are. (A seed below those that are there joins units of the higher ones; their pairs are taken over as they are.)
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import pyarrow as pa

from sweep.arrays import Array
from sweep.keys import key_of
from sweep.numerics.finite import check_finite
from sweep.numerics.similarity import pearson, standardized
from sweep.plan import Model, Plan
from sweep.stages import masking, relevance
from sweep.stages.cost import FILE_BYTES, ROW_BYTES, Size, StageCost
from sweep.stages.loaded import Loaded
from sweep.stages.stage import Ranker, Stage, UnitRows, once_per_plan
from sweep.storage.arrays import matrix
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Parts, Store, Unit

MODELS = 16
"""Models per piece of work: all of their maps of some images are held in memory at once."""

Place = tuple[str, str, int]
"""A unit's model, the condition that it is compared with, and the chunk of images."""


@once_per_plan
def _ordered(plan: Plan) -> Mapping[tuple[str, int], list[Model]]:
    """Models of each condition that have maps of a chunk of images, by condition and chunk, in order."""
    found: dict[tuple[str, int], list[Model]] = {}
    for model in sorted(plan.present, key=lambda model: (model.cell.seed, model.id)):
        for c in range(len(masking.chunks(plan))):
            if _maps(plan, model, c) is not None:
                found.setdefault((model.cell.condition, c), []).append(model)
    return found


@once_per_plan
def _places(plan: Plan) -> Mapping[Place, int]:
    """For each unit, how many models its model is compared with: so many of the condition come before it.

    Only the number is kept: all pairs of thousands of models would be too many to plan with.
    """
    found: dict[Place, int] = {}
    for c in range(len(masking.chunks(plan))):
        own = [model for (_, chunk), models in _ordered(plan).items() if chunk == c for model in models]
        before: Counter[str] = Counter()
        for model in sorted(own, key=lambda model: (model.cell.seed, model.id)):
            found |= {(model.id, condition, c): count for condition, count in before.items()}
            before[model.cell.condition] += 1
    return found


def others(plan: Plan, place: Place) -> list[Model]:
    """The models that a unit's model is compared with, in order."""
    _, condition, c = place
    return _ordered(plan)[condition, c][: _places(plan)[place]]


@once_per_plan
def units(plan: Plan) -> Mapping[Place, Unit]:
    """Units by place."""
    chained: dict[tuple[str, int], list[str]] = {}
    for (condition, c), models in _ordered(plan).items():
        keys = chained[condition, c] = [key_of("no model")]
        for model in models:
            keys.append(key_of(keys[-1], _map_keys(plan, model, c)))
    found = {}
    for (model_id, condition, c), count in _places(plan).items():
        own = _map_keys(plan, plan.model[model_id], c)
        key = key_of("similarity", own, chained[condition, c][count])
        rows = count * len(masking.chunks(plan)[c])
        found[model_id, condition, c] = Unit("similarity", f"{model_id}--{condition}.{c:04d}", key, rows)
    return found


def _maps(plan: Plan, model: Model, chunk: int) -> tuple[Unit, ...] | None:
    return relevance.units_of_chunks(plan, model.id, masking.map_chunks_of(plan, chunk))


def _map_keys(plan: Plan, model: Model, chunk: int) -> list[str]:
    return [unit.key for unit in _maps(plan, model, chunk) or ()]


def _inputs(plan: Plan) -> Iterator[tuple[Unit, tuple[Unit, ...]]]:
    for place, unit in units(plan).items():
        model_id, _, c = place
        models = (plan.model[model_id], *others(plan, place))
        yield unit, tuple(maps for model in models for maps in _maps(plan, model, c) or ())


def _cost(size: Size) -> StageCost:
    seeds = size.models / size.conditions
    chunks = ceil(size.mapped / masking.CHUNK)
    count = round(chunks * ((seeds - 1) * size.conditions**2 + size.conditions * (size.conditions - 1) / 2))
    pairs = size.models * (size.models - 1) / 2
    written = pairs * size.mapped * ROW_BYTES["similarity"] + count * FILE_BYTES
    return StageCost("similarity", count, other_flops=pairs * size.mapped * 2 * size.pixels, bytes=written)


def _pieces(plan: Plan, store: Store, missing: set[Unit], ranker: Ranker) -> Iterator["SimilarityPiece"]:
    relatives = store.relatives(missing)
    by_model: dict[tuple[int, str], list[Wanted]] = {}
    for place, unit in units(plan).items():
        if unit in missing:
            model_id, _, c = place
            names = tuple(model.id for model in others(plan, place))
            by_model.setdefault((c, model_id), []).append(Wanted(unit, model_id, names, relatives[unit]))
    for c, chunk in enumerate(masking.chunks(plan)):
        own = [wanted for (chunk_of, _), wanted in by_model.items() if chunk_of == c]
        for start in range(0, len(own), MODELS):
            wanted = tuple(one for group in own[start : start + MODELS] for one in group)
            read = sorted({name for one in wanted for name in (one.model, *one.others)})
            maps = {name: _maps(plan, plan.model[name], c) or () for name in read}
            yield SimilarityPiece(chunk, maps, wanted)


STAGE = Stage(
    name="similarity",
    tables=("similarity",),
    made_from=("relevance",),
    units=lambda plan: list(units(plan).values()),
    inputs=_inputs,
    settings=lambda plan: {},
    cost=_cost,
    pieces=_pieces,
    in_parts=True,
)


# What a worker does


@dataclass(frozen=True)
class Wanted:
    """A unit to write: one model's pairs with some others."""

    unit: Unit
    model: str
    others: tuple[str, ...]
    relatives: tuple[str, ...]
    """Stored files that may hold some of its pairs."""


@dataclass(frozen=True)
class SimilarityPiece:
    """Correlations of some models' maps with those of other models, for the same images."""

    images: tuple[int, ...]
    maps: Mapping[str, tuple[Unit, ...]]
    """The maps of every model that is read."""
    wanted: tuple[Wanted, ...]

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units that it writes."""
        return tuple(one.unit for one in self.wanted)

    def compute(self, loaded: Loaded) -> Iterator[UnitRows]:
        """Correlate the maps of every pair that no stored unit holds already."""
        parts = {one.unit: self._parts(one) for one in self.wanted}
        stored = {
            one.unit: loaded.store.stored_parts(one.unit, parts[one.unit], one.relatives)
            for one in self.wanted
        }
        pairs = {
            (one.model, other)
            for one in self.wanted
            for position, other in enumerate(one.others)
            if (position, 0) not in stored[one.unit]
        }
        correlations = self._correlations(loaded.store, pairs)
        ids = loaded.ids(self.images)
        for one in self.wanted:
            yield UnitRows(
                one.unit,
                pa.concat_tables(
                    stored[one.unit].get((position, 0))
                    or _rows(ids, other, one.model, correlations[one.model, other])
                    for position, other in enumerate(one.others)
                ),
                parts[one.unit],
            )

    def _parts(self, one: Wanted) -> Parts:
        keys = {name: key_of([unit.key for unit in maps]) for name, maps in self.maps.items()}
        return Parts(
            base=key_of("similarity parts", keys[one.model]),
            outer=tuple(keys[name] for name in one.others),
            inner=("",),
        )

    def _correlations(self, store: Store, pairs: set[tuple[str, str]]) -> dict[tuple[str, str], Array]:
        """Pearson's r (image,) of each pair. The first models' maps of a chunk stay in memory, the others pass by."""
        found: dict[tuple[str, str], list[Array]] = {pair: [] for pair in sorted(pairs)}
        held = sorted({model for model, _ in pairs})
        passing = sorted({other for _, other in pairs})
        for c in range(len(next(iter(self.maps.values())))):

            def read(model: str, c: int = c) -> Array:
                rows = store.read([self.maps[model][c]], columns=["image_id", "map"])
                maps = matrix(rows["map"])
                check_finite(maps, f"stored maps of the model {model}", rows["image_id"].to_pylist())
                return standardized(maps)

            kept = {model: read(model) for model in held}
            for other in passing:
                maps = kept[other] if other in kept else read(other)
                for model in held:
                    if (model, other) in pairs:
                        found[model, other].append(pearson(kept[model], maps))
        return {pair: np.concatenate(values) for pair, values in found.items()}


def _rows(ids: Array, first: str, second: str, values: Array) -> pa.Table:
    columns = {
        "image_id": ids,
        "model_a": [first] * len(values),
        "model_b": [second] * len(values),
        "pearson": pa.array(values, mask=np.isnan(values)),
    }
    return pa.table(columns, schema=SCHEMAS["similarity"])
