"""Stored relevance maps against iNNvestigate: a sample is computed again by the tool that the paper used."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa

from sweep import __version__
from sweep.arrays import Array
from sweep.errors import InputError, WorkError
from sweep.keys import generator, key_of
from sweep.lrp import Add, Network, composite
from sweep.lrp.reference import as_reference, check_reference
from sweep.models.network import joined
from sweep.numerics.head import layers_of, trained_of
from sweep.numerics.permutation import permuted_head, permuted_network
from sweep.numerics.similarity import pearson, standardized
from sweep.plan import Plan
from sweep.stages import finetune, randomized, relevance
from sweep.stages.loaded import ReferenceEngine
from sweep.storage.arrays import matrix
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Store, Unit


@dataclass(frozen=True)
class Verification:
    """What the comparison found; one row per map, in the columns of the table `verification`."""

    rows: pa.Table

    @property
    def max_error(self) -> float:
        """The largest error of all maps, as a share of each map's maximum; NaN where one of the two is not finite."""
        return float(np.max(self.rows["max_error"].to_numpy()))

    @property
    def reference(self) -> str:
        """What the maps were held to, with its version."""
        return str(self.rows["reference"][0])

    def is_of_stored_maps(self, plan: Plan) -> bool:
        """Whether all maps that were compared are the stored ones, and none was computed for it (see `verify`)."""
        own = json.dumps(plan.study.relevance.composite, sort_keys=True)
        return set(self.rows["composite"].to_pylist()) <= {own}

    @property
    def worst(self) -> str:
        """The map with that error, in words."""
        row = max(self.rows.to_pylist(), key=lambda row: (np.isnan(row["max_error"]), row["max_error"]))
        return f"{row['model_id']}, image {row['image_id']}"

    @property
    def min_pearson(self) -> float | None:
        """The lowest correlation; None where every map is constant."""
        known = [r for r in self.rows["pearson"].to_pylist() if r is not None]
        return min(known, default=None)


@dataclass(frozen=True)
class Explained:
    """A network that has maps: a model, or a model with its weights permuted."""

    model_id: str
    draw: int | None = None
    """Which permutation of the weights; None for the model as it is."""

    @property
    def name(self) -> str:
        """What it is called in messages and in the table `verification`."""
        return self.model_id if self.draw is None else randomized.name_of(self.model_id, self.draw)

    def unit(self, plan: Plan, chunk: int) -> Unit:
        """The unit that holds its maps of a chunk of images."""
        if self.draw is None:
            return relevance.units(plan)[self.model_id, chunk]
        return randomized.units(plan)[self.model_id, self.draw, chunk]


def explained(plan: Plan) -> list[Explained]:
    """Every network of a study that has maps: all models, then each with its weights permuted."""
    names, draws = [model.id for model in plan.models], randomized.draws(plan)
    return [*map(Explained, names), *(Explained(name, draw) for name in names for draw in draws)]


def sample_maps(plan: Plan, count: int, seed: int) -> dict[Explained, list[int]]:
    """Positions, among the images with maps, of a random `count` of a study's maps, by network."""
    networks = explained(plan)
    drawn = generator("verify", plan.study.name, seed).permutation(len(networks) * len(plan.selected))[:count]
    chosen: dict[Explained, list[int]] = {}
    for network, position in sorted(divmod(int(index), len(plan.selected)) for index in drawn):
        chosen.setdefault(networks[network], []).append(position)
    return chosen


def verify(
    plan: Plan, store: Store, count: int, seed: int, on_done: Callable[[int], None] = lambda _: None
) -> Verification:
    """Compute `count` random maps of a study again with iNNvestigate, and store the comparison as a unit.

    iNNvestigate shares the relevance of sums by `z` only. Where a study shares them in another way, its stored maps cannot be
    compared: the engine's maps with `z`, of the same models and images, are.
    `on_done` is called with the number of maps compared.

    Raises InputError where the study's composite is none of iNNvestigate's, WorkError where the maps are not stored.
    """
    settings = plan.study.relevance
    try:
        check_reference(as_reference(settings.composite), settings.bias)
    except InputError as error:
        raise InputError(
            *(f"{plan.path}: relevance.{line}; nothing to hold it to" for line in error.problems)
        ) from None
    stored = [*relevance.units(plan).values(), *randomized.units(plan).values()]
    missing = store.missing(stored)
    if missing:
        raise WorkError(
            f"{len(missing)} units with maps are not stored yet; finish the study: sweep run {plan.path}"
        )
    chosen = sample_maps(plan, count, seed)
    networks = plan.load_networks()
    rows: list[dict[str, Any]] = []
    with closing(ReferenceEngine()) as engine:
        for one, positions in chosen.items():
            rows += _compare(plan, store, one, positions, _network(plan, store, networks, one), engine)
            on_done(len(positions))
    table = pa.Table.from_pylist(rows, schema=SCHEMAS["verification"])
    keys = [unit.key for unit in stored]
    unit = Unit(
        "verification", f"sample-{count}-seed-{seed}", key_of("verification", keys, count, seed), len(rows)
    )
    store.write(unit, table, SCHEMAS["verification"])
    return Verification(table)


def _network(plan: Plan, store: Store, networks: Mapping[str, Network], one: Explained) -> Network:
    """The network that was explained, backbone and readout."""
    model = plan.model[one.model_id]
    backbone = networks[model.backbone]
    head = layers_of(trained_of(store.read_weights(finetune.model_units(plan)[model.id])))
    if one.draw is not None:
        backbone = permuted_network(backbone, plan.backbones[model.backbone].key, one.draw)
        head = permuted_head(head, model.key, one.draw)
    return joined(backbone, head)


def has_sums(network: Network) -> bool:
    """Whether relevance is shared by sums anywhere in a network."""
    return any(isinstance(layer, Add) for layer in network.layers)


def _compare(
    plan: Plan, store: Store, one: Explained, positions: list[int], network: Network, engine: ReferenceEngine
) -> Iterator[dict[str, Any]]:
    model = plan.model[one.model_id]
    images = [plan.selected[position] for position in positions]
    given = plan.study.relevance.composite
    shared_otherwise = has_sums(network) and composite(given).sharing != "z"
    reference = as_reference(given) if shared_otherwise else given
    inputs = plan.backbones[model.backbone].weights.preprocessing(plan.images.pixels[images])
    targets = [model.labels[image] for image in images]
    if shared_otherwise:
        from sweep.lrp import relevance as own_maps

        stored = own_maps(network, inputs, targets, reference).reshape(len(images), -1)
    else:
        stored = _stored_maps(plan, store, one, positions)
    again = engine.maps(one, network, reference, inputs, targets).reshape(len(images), -1)
    largest = np.abs(again).max(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(stored - again).max(axis=1) / np.where(largest > 0, largest, 1)
        correlations = pearson(standardized(stored), standardized(again))
    errors[~np.isfinite(errors)] = np.nan
    for image, error, r in zip(images, errors, correlations, strict=True):
        yield {
            "model_id": one.name,
            "image_id": plan.images.ids[image],
            "composite": json.dumps(reference, sort_keys=True),
            "engine": f"{plan.study.relevance.engine} {__version__}",
            "reference": f"innvestigate {version('innvestigate')}",
            "max_error": float(error),
            "pearson": None if np.isnan(r) else float(r),
        }


def _stored_maps(plan: Plan, store: Store, one: Explained, positions: list[int]) -> Array:
    """Stored maps (map, pixel) in units of the logit."""
    found: dict[int, Array] = {}
    offset = 0
    for c, chunk in enumerate(relevance.chunks(plan)):
        here = [position - offset for position in positions if offset <= position < offset + len(chunk)]
        if here:
            rows = store.read([one.unit(plan, c)], columns=["map", "max_abs"])
            scaled = matrix(rows["map"]) * rows["max_abs"].to_numpy()[:, None]
            found |= {offset + row: scaled[row] for row in here}
        offset += len(chunk)
    return np.stack([found[position] for position in positions])
