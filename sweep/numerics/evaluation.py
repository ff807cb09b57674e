"""What a backbone makes of many inputs: features, plain or masked at any number of levels, and all readouts' logits.

Pure TensorFlow. Inputs, ranks and replacements are sent to the device once; the masks of all levels are made there.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from sweep.arrays import Array
from sweep.lrp.linear import with_winograd
from sweep.lrp.network import Network
from sweep.lrp.precision import full_precision
from sweep.lrp.program import program_of, weights_of
from sweep.lrp.steps import steps
from sweep.numerics.head import Head
from sweep.numerics.linear_fill import LinearFill
from sweep.numerics.readout import Readout
from sweep.study.settings import Convolutions

Tensor = Any

BATCH_PIXELS = 8 * 224**2
"""Input pixels per forward pass: enough to fill a device, little enough that activations stay below 2 GB."""


class Replacement(Protocol):
    """What removed pixels become."""

    def __call__(self, rows: Array, counts: Array, gone: Tensor) -> Tensor:
        """Network input (row, height, width, channel), or (1, ...) where it is the same for all, on the device.

        `rows` are the images' places, `counts` how many pixels of each are removed, and `gone` bool (row, height, width, 1)
        which ones.
        """
        ...


def _flat(parts: Sequence[Tensor]) -> Tensor:
    """What passes give out, as (image, feature); a backbone may end in places and channels."""
    together = tf.concat(parts, axis=0)
    return tf.reshape(together, (-1, prod(together.shape[1:])))


class SameForAllMasks:
    """Removed pixels become what `sweep.numerics.masking.replacements` gives, whatever the mask."""

    def __init__(self, replacement: Array) -> None:
        self._values = tf.constant(replacement)

    def __call__(self, rows: Array, counts: Array, gone: Tensor) -> Tensor:
        """See `Replacement`."""
        return self._values if len(self._values) == 1 else tf.gather(self._values, rows)


class Imputed:
    """Removed pixels become what their neighbours suggest (`sweep.numerics.linear_fill`)."""

    def __init__(self, fill: LinearFill, preprocess: Callable[[Tensor], Tensor]) -> None:
        """`preprocess` makes network input of float32 pixels, on the device."""
        self._fill, self._preprocess = fill, preprocess

    def __call__(self, rows: Array, counts: Array, gone: Tensor) -> Tensor:
        """See `Replacement`."""
        return self._preprocess(self._fill.fill(rows, counts, gone))


class Evaluator:
    """A backbone, ready to run."""

    def __init__(self, network: Network, convolutions: Convolutions = "winograd") -> None:
        described = steps(network, [None] * len(network.layers))
        if convolutions == "winograd":
            described = with_winograd(described)
        self._program, self._weights = program_of(described), weights_of(network, described)
        height, width, _ = network.input_shape
        self.batch = max(1, BATCH_PIXELS // (height * width))
        """Images per forward pass."""

    def features(self, inputs: Array) -> Tensor:
        """Features (image, feature) of `inputs` (image, height, width, channel).

        NaN for an image where a number inside the backbone was not finite.
        """
        parts = [tf.constant(inputs[part]) for part in self._parts(len(inputs))]
        return _flat([self._program.run(self._weights, part, checked=True) for part in parts])

    def masked_features(
        self, inputs: Array, replacement: Replacement, ranks: Array, counts: Sequence[int]
    ) -> list[Tensor]:
        """Features (image, feature) for each of `counts`: that many pixels, the first of `ranks`, replaced.

        `ranks` is (image, pixel). Passes run across levels, so that few images at many levels fill them as well as many
        images do.
        """
        inputs = tf.constant(inputs)
        ranks = tf.reshape(tf.constant(ranks), (*inputs.shape[:3], 1))
        # One row per level and image: which image it is, and how many of its pixels are replaced.
        images = np.tile(np.arange(len(inputs)), len(counts))
        removed = np.repeat(np.asarray(counts, np.int32), len(inputs))
        outputs = []
        for part in self._parts(len(images)):
            rows = images[part]
            gone = tf.gather(ranks, rows) < removed[part].reshape(-1, 1, 1, 1)
            instead = replacement(rows, removed[part], gone)
            masked = tf.where(gone, instead, tf.gather(inputs, rows))
            outputs.append(self._program.run(self._weights, masked))
        levels: list[Tensor] = tf.split(_flat(outputs), len(counts))
        return levels

    def _parts(self, rows: int) -> list[slice]:
        """As few parts as the batch allows, as equal as can be: a last pass of a few rows costs more per row."""
        count = -(-rows // self.batch)
        ends = [rows * part // count for part in range(count + 1)]
        return [slice(start, end) for start, end in pairwise(ends)]


class Readouts:
    """Readouts of one backbone, side by side: one matrix product answers for all."""

    def __init__(self, readouts: Sequence[Readout]) -> None:
        self._kernel = tf.constant(np.concatenate([readout.kernel for readout in readouts], axis=1))
        self._bias = tf.constant(np.concatenate([readout.bias for readout in readouts]))
        self._ends = np.cumsum([len(readout.bias) for readout in readouts])[:-1]

    def of_levels(self, levels: Sequence[Tensor]) -> list[list[Array]]:
        """For each of `levels`, features (image, feature), what `logits` gives."""
        return [self.logits(features) for features in levels]

    @full_precision()
    def logits(self, features: Tensor) -> list[Array]:
        """Logits (image, class) of each readout, of `features` (image, feature)."""
        return np.split((features @ self._kernel + self._bias).numpy(), self._ends, axis=1)


class OneByOne:
    """Readouts and deeper heads of one backbone, of which one is in memory at a time."""

    def __init__(self, makers: Sequence[Callable[[], Readout | Head] | None]) -> None:
        """Each of `makers` gives one; None keeps the place of what there is not."""
        self._makers = makers

    def of_levels(self, levels: Sequence[Tensor]) -> list[list[Array]]:
        """For each of `levels`, features (image, feature), the logits (image, class) of each; none where there is none."""
        found: list[list[Array]] = [[] for _ in levels]
        for make in self._makers:
            trained = make() if make else None
            for level, features in zip(found, levels, strict=True):
                level.append(
                    np.zeros((len(features), 0)) if trained is None else trained.logits(np.asarray(features))
                )
        return found
