"""What a backbone makes of many inputs: features, plain or masked at any number of levels, and all readouts' logits.

Pure TensorFlow. Inputs, ranks and replacements are sent to the device once; the masks of all levels are made there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sweep.lrp.network import Network
from sweep.lrp.program import program_of, weights_of
from sweep.lrp.steps import steps
from sweep.readout import Readout

Array = np.ndarray[Any, Any]
Tensor = Any

BATCH_PIXELS = 400_000
"""Input pixels per forward pass: enough to fill a device, little enough that activations stay below 2 GB."""


class Evaluator:
    """A backbone, ready to run."""

    def __init__(self, network: Network) -> None:
        described = steps(network, [None] * len(network.layers))
        self._program, self._weights = program_of(described), weights_of(network, described)
        height, width, _ = network.input_shape
        self.batch = max(1, BATCH_PIXELS // (height * width))
        """Images per forward pass."""

    def features(self, inputs: Array) -> Tensor:
        """Features (image, feature) of `inputs` (image, height, width, channel)."""
        on_device = tf.constant(inputs)
        return tf.concat([self._run(on_device[part]) for part in self._parts(len(inputs))], axis=0)

    def masked_features(
        self, inputs: Array, replacement: Array, ranks: Array, counts: Sequence[int]
    ) -> list[Tensor]:
        """Features (image, feature) for each of `counts`: that many pixels, the first of `ranks`, replaced.

        `ranks` is (image, pixel), `replacement` as given by `sweep.masking.replacements`.
        """
        inputs, replacement = tf.constant(inputs), tf.constant(replacement)
        ranks = tf.reshape(tf.constant(ranks), (*inputs.shape[:3], 1))
        levels = []
        for count in counts:
            outputs = []
            for part in self._parts(len(inputs)):
                instead = replacement if len(replacement) == 1 else replacement[part]
                outputs.append(self._run(tf.where(ranks[part] < count, instead, inputs[part])))
            levels.append(tf.concat(outputs, axis=0))
        return levels

    def _run(self, inputs: Tensor) -> Tensor:
        return self._program.run(self._weights, inputs)

    def _parts(self, images: int) -> list[slice]:
        return [slice(start, start + self.batch) for start in range(0, images, self.batch)]


class Readouts:
    """Readouts of one backbone, side by side: one matrix product answers for all."""

    def __init__(self, readouts: Sequence[Readout]) -> None:
        self._kernel = tf.constant(np.concatenate([readout.kernel for readout in readouts], axis=1))
        self._bias = tf.constant(np.concatenate([readout.bias for readout in readouts]))
        self._ends = np.cumsum([len(readout.bias) for readout in readouts])[:-1]

    def logits(self, features: Tensor) -> list[Array]:
        """Logits (image, class) of each readout, of `features` (image, feature)."""
        return np.split((features @ self._kernel + self._bias).numpy(), self._ends, axis=1)
