"""What the workers of a study share, and what one worker keeps in memory of it."""

import functools
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.arrays import Array
from sweep.lrp import Network
from sweep.models.source import Preprocessing
from sweep.numerics.masking import Fill, replacements
from sweep.storage.store import Store, Unit
from sweep.study.settings import Convolutions

KEPT_BACKBONES = 2
"""Backbones that a worker keeps: those of a usual study, whose pieces of work ask for them in turn."""
KEPT_READOUTS, KEPT_BLOCKS, KEPT_LEVELS = 256, 8, 4
"""Readouts, blocks of readouts, and features of unmasked or wholly masked images that a worker keeps."""
HEAD_BYTES = 2**28
"""Weights of deeper heads that a worker keeps; prepared for the passes they take several times as much."""

Reference = Any
"""Something in the memory that all workers share; `Loaded.get` resolves it."""


@dataclass(frozen=True)
class Context:
    """What every worker of a study shares; the arrays are sent to a node once."""

    store: Store
    schemas: Mapping[str, pa.Schema]
    """Columns of every table in this study."""
    image_ids: tuple[str, ...]
    image_keys: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]
    """Class names of each task, in the order of its readouts' columns."""
    labels: Mapping[str, tuple[int, ...]]
    """Class of every image for each task."""
    pixels: Reference
    """uint8 RGB (image, size, size, 3)."""
    networks: Mapping[str, Reference]
    """Each backbone, for the images' size."""
    preprocessing: Mapping[str, Preprocessing]
    convolutions: Convolutions = "winograd"
    worker_bytes: int = 0
    """Memory that a worker takes; 0 where the weights are not known."""


@dataclass(frozen=True)
class ModelRef:
    """A finetuned model as a worker needs it."""

    id: str
    key: str
    task: str
    unit: Unit
    """The model's row in the table `models`, which names the weights."""
    stored: bool = True
    """Whether there is such a row; a model that could not be finetuned only keeps its place among others."""
    is_deep: bool = False
    """Whether it has a head deeper than a readout."""


class Loaded:
    """A worker's copy of what it needs: networks, readouts and inputs, loaded when they are first asked for."""

    def __init__(self, context: Context, get: Callable[[Reference], Any]) -> None:
        """`get` resolves the references of `context`."""
        self.context, self.store, self.get = context, context.store, get
        self.network = functools.lru_cache(maxsize=KEPT_BACKBONES)(self._load_network)
        self.permuted_network = functools.lru_cache(maxsize=1)(self._permute)
        self.evaluator = functools.lru_cache(maxsize=KEPT_BACKBONES)(self._make_evaluator)
        self._readout = functools.lru_cache(maxsize=KEPT_READOUTS)(self._load_trained)
        self._heads: dict[ModelRef, Any] = {}
        self.readouts = functools.lru_cache(maxsize=KEPT_BLOCKS)(self._side_by_side)
        self.unmasked = functools.lru_cache(maxsize=KEPT_LEVELS)(self._compute_unmasked)
        self.all_removed = functools.lru_cache(maxsize=KEPT_LEVELS)(self._compute_all_removed)
        self.reference = ReferenceEngine()

    def inputs(self, backbone: str, images: tuple[int, ...]) -> Array:
        """Preprocessed network input of some images, float32 (image, height, width, channel)."""
        return self.context.preprocessing[backbone](self._pixels(images))

    def replacement(self, backbone: str, images: tuple[int, ...], fill: str, mask: str) -> Any:
        """What pixels become that `mask` removes; see `sweep.numerics.evaluation.Replacement`."""
        from sweep.numerics.evaluation import Imputed, SameForAllMasks
        from sweep.numerics.linear_fill import LinearFill

        if fill != "linear":
            return SameForAllMasks(self.filled(backbone, images, fill))
        keys = [self.context.image_keys[index] for index in images]
        return Imputed(
            LinearFill(self._pixels(images), keys, mask), self.context.preprocessing[backbone].of_floats
        )

    def filled(self, backbone: str, images: tuple[int, ...], fill: str) -> Array:
        """Network input in which every pixel is filled: (image, height, width, channel), or (1, ...) where it is one for all."""
        keys = [self.context.image_keys[index] for index in images]
        # Where every pixel is gone, nothing is left to impute from.
        known: Fill = "mean" if fill == "linear" else fill  # type: ignore[assignment]
        return replacements(known, self._pixels(images), keys, self.context.preprocessing[backbone])

    def ids(self, images: tuple[int, ...]) -> Array:
        """Ids of some images."""
        return np.asarray([self.context.image_ids[index] for index in images])

    def classes(self, model: ModelRef) -> Array:
        """Class names of a model's task."""
        return np.asarray(self.context.classes[model.task])

    def targets(self, model: ModelRef, images: tuple[int, ...]) -> Array:
        """The true class of some images, as a column of the model's readout."""
        return np.asarray(self.context.labels[model.task])[list(images)]

    def _pixels(self, images: tuple[int, ...]) -> Array:
        pixels: Array = self.get(self.context.pixels)[list(images)]
        return pixels

    def _compute_unmasked(self, backbone: str, images: tuple[int, ...]) -> Any:
        return self.evaluator(backbone).features(self.inputs(backbone, images))

    def _compute_all_removed(self, backbone: str, images: tuple[int, ...], fill: str) -> Any:
        features = self.evaluator(backbone).features(self.filled(backbone, images, fill))
        return np.broadcast_to(features, (len(images), features.shape[1]))

    def _load_network(self, backbone: str) -> Any:
        return self.get(self.context.networks[backbone])

    def _permute(self, backbone: str, key: str, draw: int) -> Any:
        """The backbone with its weights permuted for a draw; `key` is the backbone's."""
        from sweep.numerics.permutation import permuted_network

        return permuted_network(self.network(backbone), key, draw)

    def _make_evaluator(self, backbone: str) -> Any:
        from sweep.numerics.evaluation import Evaluator

        return Evaluator(self.network(backbone), self.context.convolutions)

    def _side_by_side(self, models: tuple[ModelRef, ...]) -> Any:
        """The readouts of `models`; zeros keep the place of those that are not stored."""
        from sweep.numerics.evaluation import OneByOne, Readouts
        from sweep.numerics.readout import Readout

        if any(model.is_deep for model in models):
            return OneByOne(
                [functools.partial(self.readout, model) if model.stored else None for model in models]
            )

        stored = {model: self.readout(model) for model in models if model.stored}
        features = len(next(iter(stored.values())).kernel)
        return Readouts(
            [
                stored[model] if model.stored else Readout.zeros(features, len(self.classes(model)))
                for model in models
            ]
        )

    def readout(self, model: ModelRef) -> Any:
        """The readout or the deeper head of a model; those used last are kept."""
        if not model.is_deep:
            return self._readout(model)
        head = self._heads.pop(model, None) or self._load_trained(model)
        self._heads[model] = head
        while len(self._heads) > 1 and sum(one.bytes for one in self._heads.values()) > HEAD_BYTES:
            del self._heads[next(iter(self._heads))]
        return head

    def _load_trained(self, model: ModelRef) -> Any:
        from sweep.numerics.head import trained_of

        return trained_of(self.store.read_weights(model.unit))


class ReferenceEngine:
    """iNNvestigate in a process of its own, for one network after the other; close it, or let it go."""

    def __init__(self) -> None:
        self._of: Any = None
        self._process: Any = None

    def maps(self, of: Any, network: Network, composite: Any, inputs: Array, targets: Any) -> Array:
        """Maps (image, height, width) of one network, which `of` tells from all others."""
        from sweep.lrp.reference import Innvestigate

        try:
            if self._process is None:
                self._process = Innvestigate(network, composite)
                # Whoever keeps this may be collected at any moment, long after its last use.
                self._end = weakref.finalize(self, self._process.close)
            elif of != self._of:
                self._process.turn_to(network, composite)
            maps: Array = self._process.relevance(inputs, targets)
        except BaseException:  # what has failed may answer no further question
            self.close()
            raise
        self._of = of
        return maps

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None:
            self._end()
            self._process = None
