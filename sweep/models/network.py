"""Backbones as networks that relevance can be propagated through, and as Keras models."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sweep.lrp import Conv, Flatten, MaxPool, Network, ReLU
from sweep.models.vgg import BLOCKS

Array = np.ndarray[Any, Any]


def backbone_network(layers: Mapping[str, tuple[Array, Array]], input_size: int) -> Network:
    """The convolutional part of VGG-16 with `layers`, flattened at its end, for square RGB inputs."""
    sequence: list[Any] = []
    for block, count in enumerate(BLOCKS, 1):
        for index in range(1, count + 1):
            name = f"block{block}_conv{index}"
            kernel, bias = layers[name]
            sequence += [Conv(kernel=kernel, bias=bias, padding="same", name=name), ReLU()]
        sequence.append(MaxPool(size=(2, 2), stride=(2, 2), padding="valid"))
    return Network(layers=(*sequence, Flatten()), input_shape=(input_size, input_size, 3))


def keras_model(
    layers: Mapping[str, tuple[Array, Array]], input_size: int, kernel: Array, bias: Array
) -> Any:
    """A whole model, backbone and readout, as a Keras model with logits as outputs."""
    import keras

    # Whatever ~/.keras/keras.json says.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    inputs = outputs = keras.Input((input_size, input_size, 3))
    for block, count in enumerate(BLOCKS, 1):
        for index in range(1, count + 1):
            name = f"block{block}_conv{index}"
            width = layers[name][1].shape[0]
            outputs = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=name)(outputs)
        outputs = keras.layers.MaxPooling2D(name=f"block{block}_pool")(outputs)
    outputs = keras.layers.Dense(len(bias), name="readout")(keras.layers.Flatten()(outputs))
    model = keras.Model(inputs, outputs)
    for name, weights in {**layers, "readout": (kernel, bias)}.items():
        model.get_layer(name).set_weights(list(weights))
    return model
