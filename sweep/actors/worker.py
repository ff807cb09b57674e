"""The worker: an actor that keeps backbones and readouts in memory and turns work into stored units."""

import functools
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from sweep.actors.devices import configure_tensorflow
from sweep.actors.work import Context, Features, Masked, ModelRef, Predictions, Relevance, Similarity, Work
from sweep.arrays import lists, matrix
from sweep.errors import WorkError
from sweep.masking import masked, random_ranks, removal_ranks, removed_count
from sweep.schemas import SCHEMAS
from sweep.similarity import pearson_matrix

Array = np.ndarray[Any, Any]

BATCH_PIXELS = 400_000
"""Input pixels per forward pass: enough to fill a device, little enough that activations stay below 2 GB."""


class Worker:
    """The actor itself: one process, one device."""

    def __init__(self, threads: int) -> None:
        configure_tensorflow(threads)
        self._bench: Bench | None = None

    def do(self, context: "list[ray.ObjectRef[Context]]", work: Work) -> int:
        """Compute and store the units of `work`; `context` holds a reference, resolved at the first call."""
        if self._bench is None:
            self._bench = Bench(ray.get(context[0]))
        return self._bench.do(work)


class Bench:
    """What a worker keeps at hand, and how each kind of work is done; every result is stored before `do` returns."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store
        self._network = functools.cache(self._load_network)
        self._readout = functools.lru_cache(maxsize=256)(self._load_readout)
        self._unmasked_features = functools.lru_cache(maxsize=4)(self._compute_unmasked)
        self._blank_features = functools.lru_cache(maxsize=4)(self._compute_blank)

    def do(self, work: Work) -> int:
        """Compute and store the units of `work`; returns how many rows that were.

        Raises WorkError where something stored is missing or damaged.
        """
        match work:
            case Features():
                return self._features(work)
            case Predictions():
                return self._predictions(work)
            case Relevance():
                return self._relevance(work)
            case Similarity():
                return self._similarity(work)
            case Masked():
                return self._masked(work)

    def _features(self, work: Features) -> int:
        features = self._forward(work.backbone, self._inputs(work.backbone, work.images))
        rows = {
            "pretraining": [work.backbone] * len(work.images),
            "image_id": self._ids(work.images),
            "features": lists(features),
        }
        return self._write([(work.unit, rows)])

    def _predictions(self, work: Predictions) -> int:
        stored = self._store.read(work.features, columns=["image_id", "features"])
        logits = self._readout(work.model).logits(matrix(stored["features"]))
        kept = work.unit.rows // len(logits)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :kept]
        rows = {
            "model_id": [work.model.id] * work.unit.rows,
            "image_id": np.repeat(np.asarray(stored["image_id"].to_pylist()), kept),
            "rank": np.tile(np.arange(1, kept + 1, dtype=np.int32), len(logits)),
            "class": np.asarray(work.model.classes)[order].ravel(),
            "logit": np.take_along_axis(logits, order, axis=1).ravel(),
        }
        return self._write([(work.unit, rows)])

    def _relevance(self, work: Relevance) -> int:
        from sweep.lrp import Dense, shared_relevance

        inputs = self._inputs(work.backbone, work.images)
        readouts = [self._readout(model) for model in work.models]
        maps, logits = shared_relevance(
            self._network(work.backbone),
            [Dense(kernel=readout.kernel, bias=readout.bias) for readout in readouts],
            inputs,
            np.asarray([model.targets for model in work.models]),
            composite=work.composite,
            bias=work.bias,
            bounds=self._context.preprocessing[work.backbone].bounds,
            return_logits=True,
        )
        written = []
        for model, unit, own, own_logits in zip(work.models, work.units, maps, logits, strict=True):
            peaks = np.abs(own).max(axis=(1, 2))
            normalised = own / np.where(peaks > 0, peaks, 1)[:, None, None]
            rows = {
                "model_id": [model.id] * len(own),
                "image_id": self._ids(work.images),
                "target_class": [model.classes[target] for target in model.targets],
                "logit": own_logits[np.arange(len(own)), model.targets],
                "max_abs": peaks,
                "height": [own.shape[1]] * len(own),
                "width": [own.shape[2]] * len(own),
                "map": lists(normalised.reshape(len(own), -1)),
            }
            written.append((unit, rows))
        return self._write(written)

    def _similarity(self, work: Similarity) -> int:
        stored = [matrix(self._store.read([unit], columns=["map"])["map"]) for unit in work.maps]
        per_image = [pearson_matrix(np.stack([maps[i] for maps in stored])) for i in range(len(work.images))]
        ids = self._ids(work.images)
        written = []
        for position, unit in work.wanted:
            values = np.concatenate([square[position, :position] for square in per_image])
            rows = {
                "image_id": np.repeat(ids, position),
                "model_a": list(work.models[:position]) * len(ids),
                "model_b": [work.models[position]] * len(values),
                "pearson": pa.array(values, mask=np.isnan(values)),
            }
            written.append((unit, rows))
        return self._write(written)

    def _masked(self, work: Masked) -> int:
        inputs = self._inputs(work.backbone, work.images)
        pixels = inputs.shape[1] * inputs.shape[2]
        if work.maps:
            ranks = removal_ranks(matrix(self._store.read(work.maps, columns=["map"])["map"]))
        else:
            ranks = random_ranks(work.source, tuple(self._context.image_keys[i] for i in work.images), pixels)
        counts = [removed_count(percent, pixels) for percent in work.percents]
        features = self._masked_features(work, inputs, ranks, counts)
        ids = np.tile(self._ids(work.images), len(counts))
        percents = np.repeat(np.asarray(work.percents, np.float64), len(work.images))
        written = []
        for model, unit in zip(work.destinations, work.units, strict=True):
            logits = self._readout(model).logits(features)
            targets = np.tile(np.asarray(model.targets), len(counts))
            predicted = logits.argmax(axis=1)
            rows = {
                "source_id": [work.source] * len(logits),
                "destination_id": [model.id] * len(logits),
                "percent": percents,
                "image_id": ids,
                "predicted_class": np.asarray(model.classes)[predicted],
                "correct": predicted == targets,
                "target_logit": logits[np.arange(len(logits)), targets],
            }
            written.append((unit, rows))
        return self._write(written)

    def _masked_features(self, work: Masked, inputs: Array, ranks: Array, counts: list[int]) -> Array:
        """Features of every level's masked inputs, level by level; those no mask can change are computed once."""
        levels: dict[int, Array] = {}
        if 0 in counts:
            levels[0] = self._unmasked_features(work.backbone, work.images)
        if ranks.shape[1] in counts:
            levels[ranks.shape[1]] = self._blank_features(work.backbone, len(work.images))
        partial = [count for count in counts if count not in levels]
        if partial:
            computed = self._forward(
                work.backbone, np.concatenate([masked(inputs, ranks, c) for c in partial])
            )
            levels |= dict(zip(partial, np.split(computed, len(partial)), strict=True))
        return np.concatenate([levels[count] for count in counts])

    def _compute_unmasked(self, backbone: str, images: tuple[int, ...]) -> Array:
        return self._forward(backbone, self._inputs(backbone, images))

    def _compute_blank(self, backbone: str, images: int) -> Array:
        shape = ray.get(self._context.pixels).shape[1:]
        return np.repeat(self._forward(backbone, np.zeros((1, *shape), np.float32)), images, axis=0)

    def _forward(self, backbone: str, inputs: Array) -> Array:
        """Features of any number of inputs, in batches of one size, so that one program is compiled."""
        from sweep.lrp import forward

        network = self._network(backbone)
        size = max(1, min(BATCH_PIXELS // (inputs.shape[1] * inputs.shape[2]), len(inputs)))
        outputs = []
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            padded = np.concatenate([batch, np.repeat(batch[:1], size - len(batch), axis=0)])
            outputs.append(np.asarray(forward(network, padded))[: len(batch)])
        return np.concatenate(outputs)

    def _inputs(self, backbone: str, images: tuple[int, ...]) -> Array:
        pixels = ray.get(self._context.pixels)
        return self._context.preprocessing[backbone](pixels[list(images)])

    def _ids(self, images: tuple[int, ...]) -> Array:
        return np.asarray([self._context.image_ids[index] for index in images])

    def _load_network(self, backbone: str) -> Any:
        from sweep.models.network import backbone_network

        pixels = ray.get(self._context.pixels)
        return backbone_network(ray.get(self._context.layers[backbone]), pixels.shape[1])

    def _load_readout(self, model: ModelRef) -> Any:
        import hashlib

        from sweep.readout import Readout

        row = self._store.read([model.unit], columns=["weights_uri", "weights_sha256"]).to_pylist()[0]
        content = self._store.read_file(row["weights_uri"])
        if hashlib.sha256(content).hexdigest() != row["weights_sha256"]:
            raise WorkError(f"{row['weights_uri']}: not the weights of {model.id}; delete {model.unit.path}")
        return Readout.from_bytes(content)

    def _write(self, units: list[tuple[Any, dict[str, Any]]]) -> int:
        for unit, rows in units:
            self._store.write(unit, pa.table(rows), SCHEMAS[unit.table])
        return sum(unit.rows for unit, _ in units)
