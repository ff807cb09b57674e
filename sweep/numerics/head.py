"""What is trained of a model that is deeper than a readout: all layers from the frozen trunk's output to the logits.

Pure numerics on TensorFlow. A readout (`sweep.numerics.readout`) is the head of one layer; it has its own form, in which one
matrix product answers for many.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import tensorflow as tf

from sweep.arrays import Array
from sweep.lrp import Dense, Network
from sweep.lrp.layers import WEIGHTED
from sweep.lrp.linear import with_winograd
from sweep.lrp.network_file import from_bytes, to_bytes
from sweep.lrp.program import program_of, weights_of
from sweep.lrp.steps import steps
from sweep.numerics.readout import Readout

PASS_VALUES = 2**24
"""Values that the largest tensor of a pass through a head may hold: 64 MB."""


@dataclass(frozen=True, eq=False)
class Head:
    """The trained layers of one model."""

    network: Network
    """From the trunk's output, (height, width, channel), to the logits; a flat output is an image of one pixel."""

    def logits(self, features: Any) -> Array:
        """Pre-softmax activations, float32 (image, class), of `features` (image, feature), an array or a tensor."""
        images = tf.reshape(tf.convert_to_tensor(features), (-1, *self.network.input_shape))
        parts = [self._program.run(self._weights, part) for part in self._parts(images)]
        answered: Array = tf.concat(parts, axis=0).numpy()
        return answered

    def to_bytes(self) -> bytes:
        """The layers as an npz file; the same weights always give the same bytes."""
        return to_bytes(self.network, {})

    @property
    def bytes(self) -> int:
        """Memory that its weights take."""
        return sum(layer.kernel.nbytes for layer in self.network.layers if isinstance(layer, WEIGHTED))

    def _parts(self, images: Any) -> Iterator[Any]:
        at_once = max(1, PASS_VALUES // max(map(prod, self.network.shapes)))
        for start in range(0, len(images), at_once):
            yield images[start : start + at_once]

    @cached_property
    def _steps(self) -> Any:
        return with_winograd(steps(self.network, [None] * len(self.network.layers)))

    @cached_property
    def _program(self) -> Any:
        return program_of(self._steps)

    @cached_property
    def _weights(self) -> Any:
        return weights_of(self.network, self._steps)


def trained_of(content: bytes) -> "Readout | Head":
    """Read what `Readout.to_bytes` or `Head.to_bytes` wrote. Raises ValueError or KeyError where it is something else."""
    try:
        return Readout.from_bytes(content)
    except KeyError:
        return Head(from_bytes(content)[0])


def trained_by(layers: Dense | Network) -> "Readout | Head":
    """The opposite of `layers_of`."""
    return Head(layers) if isinstance(layers, Network) else Readout(layers.kernel, layers.bias)


def layers_of(trained: "Readout | Head") -> Dense | Network:
    """A readout or a head as what relevance goes through."""
    return trained.network if isinstance(trained, Head) else Dense(trained.kernel, trained.bias)
