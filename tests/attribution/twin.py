"""Slow, obvious twins of the attributions: a Keras model and a GradientTape, one image and one readout at a time."""

import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sweep.lrp import (
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool,
    Multiply,
    Network,
    ReLU,
    ZeroPad,
)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _guided_relu(x: Any) -> Any:
    return tf.nn.relu(x), lambda g: tf.where((x > 0) & (g > 0), g, 0.0)


class GuidedReLU(keras.layers.Layer):  # type: ignore[misc]
    """A ReLU that lets only positive gradients back."""

    def call(self, x: Any) -> Any:
        return _guided_relu(x)


class Slope(keras.layers.Layer):  # type: ignore[misc]
    """A leaky ReLU with a slope for each value, or for several."""

    def __init__(self, slope: Any) -> None:
        super().__init__()
        self.slope_values = slope

    def call(self, x: Any) -> Any:
        return tf.where(x > 0, x, self.slope_values * x)


def can_be_keras(layer: Any) -> bool:
    """Whether Keras has the layer, and TensorFlow computes it right (see sweep.lrp.linear)."""
    if not isinstance(layer, Conv | DepthwiseConv):
        return True
    plain = max(layer.stride) == 1 or max(layer.dilation) == 1
    return layer.stride[0] == layer.stride[1] and plain


def keras_model(network: Network, *, guided: bool = False) -> keras.Model:
    """The network as a Keras model, whose layers have the names 'layer_0', 'layer_1' and so on."""
    tensors = [keras.Input(network.input_shape)]
    for index, (layer, reads) in enumerate(zip(network.layers, network.reads, strict=True)):
        read = [tensors[tensor] for tensor in reads]
        made: Any = _layer(layer, guided)
        made.name = f"layer_{index}"
        tensors.append(made(read if isinstance(layer, Add | Concatenate | Multiply) else read[0]))
        if isinstance(layer, Conv | DepthwiseConv | Dense):
            made.set_weights([layer.kernel, layer.bias])
    return keras.Model(tensors[0], tensors[-1])


def _layer(layer: Any, guided: bool) -> Any:
    if isinstance(layer, Conv):
        return keras.layers.Conv2D(
            layer.kernel.shape[3],
            layer.kernel.shape[:2],
            layer.stride,
            layer.padding,
            dilation_rate=layer.dilation,
        )
    if isinstance(layer, DepthwiseConv):
        return keras.layers.DepthwiseConv2D(
            layer.kernel.shape[:2],
            layer.stride,
            layer.padding,
            depth_multiplier=layer.kernel.shape[3],
            dilation_rate=layer.dilation,
        )
    if isinstance(layer, Dense):
        return keras.layers.Dense(layer.bias.size)
    if isinstance(layer, MaxPool):
        return keras.layers.MaxPooling2D(layer.size, layer.stride, layer.padding)
    if isinstance(layer, AveragePool):
        return keras.layers.AveragePooling2D(layer.size, layer.stride, layer.padding)
    if isinstance(layer, ReLU):
        return GuidedReLU() if guided and layer.max_value is None else keras.layers.ReLU(layer.max_value)
    if isinstance(layer, LeakyReLU):
        return Slope(layer.slope)
    if isinstance(layer, ZeroPad):
        return keras.layers.ZeroPadding2D(layer.padding)
    kinds: dict[type, Any] = {
        Flatten: keras.layers.Flatten,
        Dropout: lambda: keras.layers.Dropout(0.5),
        Add: keras.layers.Add,
        Concatenate: keras.layers.Concatenate,
        Multiply: keras.layers.Multiply,
    }
    return kinds[type(layer)]()


def logit(model: keras.Model, image: Any, target: int) -> float:
    """One logit of one image."""
    return float(model(image[None])[0, target])


@functools.lru_cache(maxsize=4)
def _taped(model: keras.Model, layer: str | None) -> Any:
    """A function of an image and a class: the input or a layer's output, and the gradient of the logit for it.

    A graph, from which the gradients of weights that nobody asks for are dropped: outside of one TensorFlow computes them,
    and for strided 1 x 1 kernels oneDNN's ends the process.
    """
    inside = model.input if layer is None else model.get_layer(layer).output
    both = keras.Model(model.input, [inside, model.output])

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def taped(x: Any, target: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            at, logits = both(x)
            value = logits[0, target]
        at = x if layer is None else at
        return at[0], tape.gradient(value, at, unconnected_gradients="zero")[0]

    return taped


def gradient(model: keras.Model, image: Any, target: int) -> Any:
    """The gradient (height, width, channel) of one logit."""
    return _taped(model, None)(tf.constant(image[None]), tf.constant(target))[1].numpy()


def grad_cam(model: keras.Model, layer: str, image: Any, target: int) -> Any:
    """Grad-CAM of one logit at a layer's output, (height, width)."""
    at, found = (one.numpy() for one in _taped(model, layer)(tf.constant(image[None]), tf.constant(target)))
    return upsampled(np.maximum((at * found.mean(axis=(0, 1))).sum(axis=-1), 0), image.shape[:2])


def upsampled(small: Any, shape: tuple[int, int]) -> Any:
    """Bilinear interpolation between the centres of pixels, the edge's pixels going on beyond it."""
    result = np.zeros(shape)
    for row in range(shape[0]):
        for column in range(shape[1]):
            y = np.clip((row + 0.5) * small.shape[0] / shape[0] - 0.5, 0, small.shape[0] - 1)
            x = np.clip((column + 0.5) * small.shape[1] / shape[1] - 0.5, 0, small.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, small.shape[0] - 1), min(left + 1, small.shape[1] - 1)
            upper = small[top, left] * (1 - (x - left)) + small[top, right] * (x - left)
            lower = small[bottom, left] * (1 - (x - left)) + small[bottom, right] * (x - left)
            result[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def occlusion(model: keras.Model, image: Any, filled: Any, target: int, patch: int, stride: int) -> Any:
    """What the logit loses under each square that covers a pixel, on average, (height, width)."""
    height, width = image.shape[:2]
    lost: list[list[list[float]]] = [[[] for _ in range(width)] for _ in range(height)]
    whole, top = logit(model, image, target), 0
    while True:
        left = 0
        while True:
            occluded = image.copy()
            inside = [
                (row, column)
                for row in range(top, min(top + patch, height))
                for column in range(left, min(left + patch, width))
            ]
            for row, column in inside:
                occluded[row, column] = filled[row, column]
            loss = whole - logit(model, occluded, target)
            for row, column in inside:
                lost[row][column].append(loss)
            if left + patch >= width:
                break
            left += stride
        if top + patch >= height:
            break
        top += stride
    return np.array([[np.mean(own) for own in row] for row in lost])
