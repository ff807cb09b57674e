"""The worker: an actor that keeps backbones and readouts in memory and turns work into stored units."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from sweep.actors.devices import configure_tensorflow, oom_kills
from sweep.actors.memory import KEPT_BACKBONES, KEPT_BLOCKS, KEPT_LEVELS, KEPT_READOUTS
from sweep.actors.root import Token, check_root
from sweep.actors.work import (
    Context,
    Features,
    Masked,
    ModelRef,
    Predictions,
    Relevance,
    Similarity,
    Work,
    units_of,
)
from sweep.numerics.masking import Fill, removed_count, replacements
from sweep.numerics.similarity import pearson, standardized
from sweep.storage.arrays import lists, matrix
from sweep.storage.store import Unit

Array = np.ndarray[Any, Any]
Rows = dict[str, Any]


class Worker:
    """The actor itself: one process, one device."""

    def __init__(self, threads: int) -> None:
        configure_tensorflow(threads)
        self._bench: Bench | None = None

    def start(self, token: Token) -> int:
        """Prove that this process reaches the run's results root; returns how often its kernel ran out of memory.

        Raises RootError where it does not.
        """
        check_root(token)
        return oom_kills()

    def ready(self) -> None:
        """Answer, which says that the process lives."""

    def do(self, context: "list[ray.ObjectRef[Context]]", work: Work) -> int:
        """Compute and store the units of `work`; `context` holds a reference, resolved at the first call."""
        return self._at_hand(context).do(work)

    def measure(
        self, context: "list[ray.ObjectRef[Context]]", backbone: str, scratch: str, index: int
    ) -> dict[str, float]:
        """How fast this worker is; see `sweep.actors.measure`."""
        return self._at_hand(context).measure(backbone, scratch, index)

    def _at_hand(self, context: "list[ray.ObjectRef[Context]]") -> "Bench":
        if self._bench is None:
            self._bench = Bench(ray.get(context[0]))
        return self._bench


class Bench:
    """What a worker keeps at hand, and how each kind of work is done; every result is stored before `do` returns."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store
        self._network = functools.lru_cache(maxsize=KEPT_BACKBONES)(self._load_network)
        self._evaluator = functools.lru_cache(maxsize=KEPT_BACKBONES)(self._make_evaluator)
        self._readout = functools.lru_cache(maxsize=KEPT_READOUTS)(self._load_readout)
        self._readouts = functools.lru_cache(maxsize=KEPT_BLOCKS)(self._side_by_side)
        self._unmasked = functools.lru_cache(maxsize=KEPT_LEVELS)(self._compute_unmasked)
        self._all_removed = functools.lru_cache(maxsize=KEPT_LEVELS)(self._compute_all_removed)
        self._reference = _Reference()

    def do(self, work: Work) -> int:
        """Compute and store the units of `work`; returns how many rows that were.

        Raises WorkError where something stored is missing or damaged.
        """
        match work:
            case Features():
                written = self._features(work)
            case Predictions():
                written = self._predictions(work)
            case Relevance():
                written = self._relevance(work)
            case Similarity():
                written = self._similarity(work)
            case Masked():
                written = self._masked(work)
        for unit, rows in written:
            self._store.write(unit, pa.table(rows), self._context.schemas[unit.table])
        return sum(unit.rows for unit in units_of(work))

    def measure(self, backbone: str, scratch: str, index: int) -> dict[str, float]:
        """Do a little of each kind of work; `scratch` is a store to write to, `index` tells the workers apart."""
        from sweep.actors.measure import measure

        evaluator = self._evaluator(backbone)
        images = tuple(range(min(evaluator.batch, len(self._context.image_ids))))
        return measure(self._context, evaluator, self._inputs(backbone, images), scratch, index)

    def _features(self, work: Features) -> Iterator[tuple[Unit, Rows]]:
        features = self._evaluator(work.backbone).features(self._inputs(work.backbone, work.images))
        yield (
            work.unit,
            {
                "pretraining": [work.backbone] * len(work.images),
                "image_id": self._ids(work.images),
                "features": lists(features.numpy()),
            },
        )

    def _predictions(self, work: Predictions) -> Iterator[tuple[Unit, Rows]]:
        stored = self._store.read(work.features, columns=["image_id", "features"])
        logits = self._readout(work.model).logits(matrix(stored["features"]))
        kept = work.unit.rows // len(logits)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :kept]
        yield (
            work.unit,
            {
                "model_id": [work.model.id] * work.unit.rows,
                "image_id": np.repeat(np.asarray(stored["image_id"].to_pylist()), kept),
                "rank": np.tile(np.arange(1, kept + 1, dtype=np.int32), len(logits)),
                "class": self._classes(work.model)[order].ravel(),
                "logit": np.take_along_axis(logits, order, axis=1).ravel(),
            },
        )

    def _relevance(self, work: Relevance) -> Iterator[tuple[Unit, Rows]]:
        for model, unit, (maps, logits) in zip(work.models, work.units, self._maps(work), strict=True):
            targets = self._targets(model, work.images)
            peaks = np.abs(maps).max(axis=(1, 2))
            normalised = maps / np.where(peaks > 0, peaks, 1)[:, None, None]
            yield (
                unit,
                {
                    "model_id": [model.id] * len(maps),
                    "image_id": self._ids(work.images),
                    "target_class": self._classes(model)[targets],
                    "logit": logits[np.arange(len(maps)), targets],
                    "max_abs": peaks,
                    "height": [maps.shape[1]] * len(maps),
                    "width": [maps.shape[2]] * len(maps),
                    "map": lists(normalised.reshape(len(maps), -1)),
                },
            )

    def _maps(self, work: Relevance) -> Iterator[tuple[Array, Array]]:
        """Maps (image, height, width) and logits (image, class) of each model."""
        from sweep.lrp import Dense, shared_relevance

        inputs = self._inputs(work.backbone, work.images)
        network = self._network(work.backbone)
        readouts = [self._readout(model) for model in work.models]
        heads = [Dense(kernel=readout.kernel, bias=readout.bias) for readout in readouts]
        targets = np.asarray([self._targets(model, work.images) for model in work.models])
        if work.engine == "innvestigate":
            features = self._evaluator(work.backbone).features(inputs).numpy()
            for model, head, readout, own in zip(work.models, heads, readouts, targets, strict=True):
                maps = self._reference.maps(model, network, head, work.composite, inputs, own)
                yield maps, readout.logits(features)
        else:
            yield from zip(
                *shared_relevance(
                    network,
                    heads,
                    inputs,
                    targets,
                    composite=work.composite,
                    bias=work.bias,
                    bounds=self._context.preprocessing[work.backbone].bounds,
                    return_logits=True,
                ),
                strict=True,
            )

    def _similarity(self, work: Similarity) -> Iterator[tuple[Unit, Rows]]:
        """The wanted models' maps stay in memory; the others pass by once, so any number of models fits."""

        def read(position: int) -> Array:
            return standardized(matrix(self._store.read([work.maps[position]], columns=["map"])["map"]))

        wanted = {position: read(position) for position, _ in work.wanted}
        values: dict[int, list[Array]] = {position: [] for position in wanted}
        for other in range(max(wanted)):
            maps = wanted[other] if other in wanted else read(other)
            for position in wanted:
                if other < position:
                    values[position].append(pearson(wanted[position], maps))
        ids = self._ids(work.images)
        for position, unit in work.wanted:
            by_image = np.stack(values[position], axis=1)
            yield (
                unit,
                {
                    "image_id": np.repeat(ids, position),
                    "model_a": list(work.models[:position]) * len(ids),
                    "model_b": [work.models[position]] * by_image.size,
                    "pearson": pa.array(by_image.ravel(), mask=np.isnan(by_image).ravel()),
                },
            )

    def _masked(self, work: Masked) -> Iterator[tuple[Unit, Rows]]:
        levels = self._masked_features(work)
        for block in work.blocks:
            readouts = self._readouts(block.destinations)
            # (level, destination, image, class); each level is one matrix product for all destinations.
            logits = [readouts.logits(features) for features in levels]
            cells = self._cells if work.masking.granularity == "cell" else self._image_rows
            for positions, unit in block.units:
                parts = [
                    cells(work, percent, block.destinations[position], own[position])
                    for position in positions
                    for percent, own in zip(work.masking.percents, logits, strict=True)
                ]
                yield unit, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _image_rows(self, work: Masked, percent: float, model: ModelRef, logits: Array) -> Rows:
        targets, predicted = self._targets(model, work.images), logits.argmax(axis=1)
        return {
            "source_id": [work.source] * len(logits),
            "destination_id": [model.id] * len(logits),
            "percent": np.full(len(logits), percent, np.float64),
            "image_id": self._ids(work.images),
            "predicted_class": self._classes(model)[predicted],
            "correct": predicted == targets,
            "target_logit": logits[np.arange(len(logits)), targets],
        }

    def _cells(self, work: Masked, percent: float, model: ModelRef, logits: Array) -> Rows:
        return {
            "source_id": [work.source],
            "destination_id": [model.id],
            "percent": [float(percent)],
            "n": [len(logits)],
            "correct": [int((logits.argmax(axis=1) == self._targets(model, work.images)).sum())],
        }

    def _masked_features(self, work: Masked) -> list[Any]:
        """Features (image, feature) at every level; those no mask can change are computed once for all sources."""
        ranks = ray.get(work.ranks)
        pixels = ranks.shape[1]
        counts = [removed_count(percent, pixels) for percent in work.masking.percents]
        levels: dict[int, Any] = {}
        if 0 in counts:
            levels[0] = self._unmasked(work.backbone, work.images)
        if pixels in counts:
            levels[pixels] = self._all_removed(work.backbone, work.images, work.masking.fill)
        partial = sorted(set(counts) - set(levels))
        if partial:
            computed = self._evaluator(work.backbone).masked_features(
                self._inputs(work.backbone, work.images),
                self._replacement(work.backbone, work.images, work.masking.fill),
                ranks,
                partial,
            )
            levels |= dict(zip(partial, computed, strict=True))
        return [levels[count] for count in counts]

    def _compute_unmasked(self, backbone: str, images: tuple[int, ...]) -> Any:
        return self._evaluator(backbone).features(self._inputs(backbone, images))

    def _compute_all_removed(self, backbone: str, images: tuple[int, ...], fill: Fill) -> Any:
        features = self._evaluator(backbone).features(self._replacement(backbone, images, fill))
        return np.broadcast_to(features, (len(images), features.shape[1]))

    def _replacement(self, backbone: str, images: tuple[int, ...], fill: Fill) -> Array:
        pixels = ray.get(self._context.pixels)[list(images)]
        keys = [self._context.image_keys[index] for index in images]
        return replacements(fill, pixels, keys, self._context.preprocessing[backbone])

    def _inputs(self, backbone: str, images: tuple[int, ...]) -> Array:
        return self._context.preprocessing[backbone](ray.get(self._context.pixels)[list(images)])

    def _ids(self, images: tuple[int, ...]) -> Array:
        return np.asarray([self._context.image_ids[index] for index in images])

    def _classes(self, model: ModelRef) -> Array:
        return np.asarray(self._context.classes[model.task])

    def _targets(self, model: ModelRef, images: tuple[int, ...]) -> Array:
        return np.asarray(self._context.labels[model.task])[list(images)]

    def _load_network(self, backbone: str) -> Any:
        from sweep.models.network import backbone_network

        pixels = ray.get(self._context.pixels)
        return backbone_network(ray.get(self._context.layers[backbone]), pixels.shape[1])

    def _make_evaluator(self, backbone: str) -> Any:
        from sweep.numerics.evaluation import Evaluator

        return Evaluator(self._network(backbone))

    def _side_by_side(self, models: tuple[ModelRef, ...]) -> Any:
        """The readouts of `models`; zeros hold the place of those that are not stored."""
        from sweep.numerics.evaluation import Readouts
        from sweep.numerics.readout import Readout

        stored = {model: self._readout(model) for model in models if model.stored}
        features = len(next(iter(stored.values())).kernel)
        return Readouts(
            [
                stored[model] if model.stored else Readout.zeros(features, len(self._classes(model)))
                for model in models
            ]
        )

    def _load_readout(self, model: ModelRef) -> Any:
        from sweep.numerics.readout import Readout

        return Readout.from_bytes(self._store.read_weights(model.unit))


class _Reference:
    """iNNvestigate in a process of its own, kept for as long as the same model is asked for."""

    def __init__(self) -> None:
        self._model: ModelRef | None = None
        self._process: Any = None

    def maps(
        self, model: ModelRef, backbone: Any, readout: Any, composite: Any, inputs: Array, targets: Array
    ) -> Array:
        from sweep.lrp import Network
        from sweep.lrp.reference import Innvestigate

        if model != self._model:
            if self._process is not None:
                self._process.close()
            joined = Network((*backbone.layers, readout), backbone.input_shape)
            self._process = Innvestigate(joined, composite)
        self._model = None  # where it fails it closes, and the next call is for a new one
        maps: Array = self._process.relevance(inputs, targets)
        self._model = model
        return maps
