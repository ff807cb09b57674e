"""What is attributed: the logits of chosen classes, of several readouts on one backbone, for some images."""

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from sweep.arrays import Array
from sweep.attribution.backward import Backward, backward_of
from sweep.errors import InputError
from sweep.lrp.engine import forward, pass_size
from sweep.lrp.layers import Conv, Dense, DepthwiseConv
from sweep.lrp.linear import Tensor
from sweep.lrp.network import Network
from sweep.lrp.precision import full_precision
from sweep.lrp.program import chunks, weights_of
from sweep.lrp.steps import steps

KEEPING = ("relu", "leaky_relu", "add", "concatenate", "multiply", "identity")
"""Steps that leave a convolution's output at its place in the image."""


class Subject:
    """Readouts of one backbone with images, and the class of each whose logit is attributed."""

    def __init__(
        self,
        network: Network,
        readouts: Sequence[Dense],
        images: Array,
        targets: Array,
        image_keys: Sequence[str],
        model_keys: Sequence[str],
    ) -> None:
        """Bring them together; nothing is computed yet.

        `images` are float32 (image, height, width, channel), preprocessed; `targets` are class numbers (readout, image).
        The keys, one per image and one per readout, seed what is drawn. Raises InputError for readouts that do not fit.
        """
        size = prod(network.output_shape)
        for readout in readouts:
            if readout.kernel.shape[0] != size:
                raise InputError(
                    f"readout '{readout.name}': takes {readout.kernel.shape[0]} inputs, but the backbone has {size} outputs"
                )
        self.network, self.readouts = network, readouts
        self.images = np.ascontiguousarray(images, np.float32)
        self.targets = np.asarray(targets)
        self.image_keys, self.model_keys = image_keys, model_keys
        self._steps = steps(network, [None] * len(network.layers))
        # (image, feature, readout) would not fit: a row of weights per readout and image is taken when it is needed.
        self._rows = [np.ascontiguousarray(readout.kernel.T) for readout in readouts]

    @cached_property
    def logits(self) -> list[Array]:
        """Logits (image, class) of each readout for the images as they are."""
        return self._logits(self._features(self.images))

    def target_logits(self, inputs: Array) -> Array:
        """The chosen classes' logits (readout, image) for other `inputs` in place of the images."""
        return np.stack(
            [
                np.take_along_axis(logits, own[:, None], axis=1)[:, 0]
                for logits, own in zip(self._logits(self._features(inputs)), self.targets, strict=True)
            ]
        )

    def gradient_maps(self, inputs: Array, times: Array | None = None, *, guided: bool = False) -> Array:
        """Gradients of the chosen logits at `inputs`, summed over channels: (readout, image, height, width).

        Before they are summed they are multiplied by `times` (image, height, width, channel), where given. `guided`: see
        `Backward.back`.
        """
        maps = np.zeros((len(self.readouts), *inputs.shape[:3]), np.float32)

        def keep(readouts: slice, images: slice, gradient: Tensor, _: Tensor) -> None:
            if times is not None:
                gradient *= tf.constant(times[images])
            maps[readouts, images] = tf.reduce_sum(gradient, axis=-1).numpy()

        self._each_gradient(inputs, 0, keep, guided=guided)
        return maps

    def cam_maps(self) -> Array:
        """Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) at the last convolution, (readout, image, height, width).

        Raises InputError where the network has no convolution.
        """
        height, width = self.network.input_shape[:2]
        maps = np.zeros((len(self.readouts), len(self.images), height, width), np.float32)

        def keep(readouts: slice, images: slice, gradient: Tensor, at: Tensor) -> None:
            alpha = tf.reduce_mean(gradient, axis=[2, 3], keepdims=True)
            summed = tf.nn.relu(tf.reduce_sum(alpha * at, axis=-1))
            flat = tf.reshape(summed, (-1, *summed.shape[2:], 1))
            larger = tf.image.resize(flat, (height, width), "bilinear")
            maps[readouts, images] = larger.numpy().reshape(-1, at.shape[0], height, width)

        self._each_gradient(self.images, self._last_convolution(), keep)
        return maps

    @full_precision()
    def _each_gradient(self, inputs: Array, tensor: int, keep: Any, *, guided: bool = False) -> None:
        """Call `keep` with some readouts, some images, the gradients (readout, image, ...) of a tensor, and the tensor."""
        graphs: Backward = backward_of(self._steps, tensor)
        weights = weights_of(self.network, self._steps)
        images_at_once, maps_at_once = pass_size(self.network, len(self.readouts))
        for start, part in chunks(inputs, images_at_once):
            images = slice(start, start + len(part))
            _, at, kept = graphs.record(weights, tf.constant(part))
            for first in range(0, len(self.readouts), maps_at_once):
                readouts = slice(first, min(first + maps_at_once, len(self.readouts)))
                chosen = zip(self._rows[readouts], self.targets[readouts, images], strict=True)
                initial = np.concatenate([rows[own] for rows, own in chosen])
                gradient = graphs.back(
                    weights,
                    kept,
                    tf.reshape(tf.constant(initial), (-1, *self.network.output_shape)),
                    guided=guided,
                )
                keep(readouts, images, tf.reshape(gradient, (-1, *at.shape)), at)

    def _last_convolution(self) -> int:
        """The tensor that the last convolution, and what keeps its output at its place, gives out."""
        layers = self.network.layers
        own = [index for index, layer in enumerate(layers) if isinstance(layer, Conv | DepthwiseConv)]
        if not own:
            raise InputError("grad_cam: the network has no convolution")
        tensor = own[-1] + 1
        while True:
            readers = [index for index, step in enumerate(self._steps) if tensor in step.reads]
            if len(readers) != 1 or self._steps[readers[0]].kind not in KEEPING:
                return tensor
            after = self._steps[readers[0]].after
            if len(after) != 3 or after[:2] != self.network.shapes[tensor][:2]:
                return tensor
            tensor = readers[0] + 1

    def _features(self, inputs: Array) -> Array:
        return forward(self.network, inputs).reshape(len(inputs), -1)

    @full_precision()
    def _logits(self, features: Array) -> list[Array]:
        known = tf.constant(features)
        return [(known @ readout.kernel + readout.bias).numpy() for readout in self.readouts]
