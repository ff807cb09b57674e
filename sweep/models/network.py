"""Backbones as networks that relevance can be propagated through, and as Keras models."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sweep.arrays import Array
from sweep.errors import InputError
from sweep.lrp import Conv, Dense, Flatten, Layer, MaxPool, Network, ReLU, composite
from sweep.lrp.assignment import Bias
from sweep.lrp.rules import Rule
from sweep.models.vgg import BLOCKS, LAYERS


def backbone_network(layers: Mapping[str, tuple[Array, Array]], input_size: int) -> Network:
    """The convolutional part of VGG-16 with `layers`, flattened at its end, for square RGB inputs."""
    return Network(layers=_backbone(layers), input_shape=(input_size, input_size, 3))


def up_to_features(network: Network, name: str | None) -> Network:
    """The network up to the layer `name`, or all of it. Raises InputError where there is none of that name."""
    if name is None:
        return network
    places = [index for index, layer in enumerate(network.layers) if layer.name == name]
    if not places:
        known = dict.fromkeys(layer.name for layer in network.layers if layer.name)
        raise InputError(
            f"features: no layer is named '{name}'; the last ones are {', '.join(list(known)[-8:])}"
        )
    return network.up_to(places[-1])


def joined(backbone: Network, readout: Dense) -> Network:
    """A backbone with a readout behind it."""
    flat = () if len(backbone.output_shape) == 1 else (Flatten(),)
    return backbone.then(*flat, readout)


def model_rules(
    given: str | Mapping[str, Any], bias: Bias, backbone: Network | None = None
) -> tuple[Rule | None, ...]:
    """The rule of each layer of a backbone and, last, of the readout, as a run finds them.

    Without a backbone, those of VGG-16: its weights decide how wide its layers are, not which there are. Raises InputError
    for a composite that is wrong or names what the model does not have.
    """
    one = np.zeros((1, 1), np.float32), np.zeros(1, np.float32)
    if backbone is None:
        layers = _backbone(dict.fromkeys(LAYERS, (one[0][None, None], one[1])))
        return composite(given).rules((*layers, Dense(*one)), bias)
    count = len(backbone.layers)
    return composite(given).rules((*backbone.layers, Dense(*one)), bias, (*backbone.reads, (count,)))


def _backbone(layers: Mapping[str, tuple[Array, Array]]) -> tuple[Layer, ...]:
    sequence: list[Layer] = []
    for block, count in enumerate(BLOCKS, 1):
        for index in range(1, count + 1):
            name = f"block{block}_conv{index}"
            kernel, bias = layers[name]
            sequence += [Conv(kernel=kernel, bias=bias, padding="same", name=name), ReLU()]
        sequence.append(MaxPool(size=(2, 2), stride=(2, 2), padding="valid"))
    return (*sequence, Flatten())


def keras_model(
    layers: Mapping[str, tuple[Array, Array]], input_size: int, kernel: Array, bias: Array
) -> Any:
    """A whole model, backbone and readout, as a Keras model with logits as outputs."""
    import keras

    # Said for every layer, or ~/.keras/keras.json decides.
    plain: dict[str, Any] = {"dtype": "float32"}
    ordered = plain | {"data_format": "channels_last"}
    inputs = outputs = keras.Input((input_size, input_size, 3), **plain)
    for block, count in enumerate(BLOCKS, 1):
        for index in range(1, count + 1):
            name = f"block{block}_conv{index}"
            width = layers[name][1].shape[0]
            outputs = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=name, **ordered)(
                outputs
            )
        outputs = keras.layers.MaxPooling2D(name=f"block{block}_pool", **ordered)(outputs)
    outputs = keras.layers.Flatten(**ordered)(outputs)
    outputs = keras.layers.Dense(len(bias), name="readout", **plain)(outputs)
    model = keras.Model(inputs, outputs)
    for name, weights in {**layers, "readout": (kernel, bias)}.items():
        model.get_layer(name).set_weights(list(weights))
    return model
