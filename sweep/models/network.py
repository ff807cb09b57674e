"""Backbones as networks that relevance can be propagated through, and as Keras models."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sweep.arrays import Array
from sweep.errors import InputError
from sweep.keys import generator
from sweep.lrp import Conv, Dense, Flatten, Layer, MaxPool, Network, ReLU, composite
from sweep.lrp.assignment import Bias
from sweep.lrp.rules import Rule
from sweep.models.vgg import BLOCKS, LAYERS, VGG16_WIDTHS


def backbone_network(layers: Mapping[str, tuple[Array, Array]], input_size: int) -> Network:
    """The convolutional part of VGG-16 with `layers`, flattened at its end, for square RGB inputs."""
    return Network(layers=_backbone(layers), input_shape=(input_size, input_size, 3))


def vgg_outline(input_size: int) -> Network:
    """VGG-16's convolutional part without weights: its layers are known before any file is read."""
    inputs = (3, *VGG16_WIDTHS)
    layers = {
        name: (np.zeros((3, 3, before, width), np.float32), np.zeros(width, np.float32))
        for name, before, width in zip(LAYERS, inputs, VGG16_WIDTHS, strict=False)
    }
    return backbone_network(layers, input_size)


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


def joined(backbone: Network, readout: Dense | Network) -> Network:
    """A backbone with a readout, or with a head of several layers, behind it."""
    if isinstance(readout, Network):
        return backbone.joined(readout)
    flat = () if len(backbone.output_shape) == 1 else (Flatten(),)
    return backbone.then(*flat, readout)


def untrained_head(
    tail: Network | None,
    features: Sequence[int],
    hidden: Sequence[int],
    n_classes: int,
    key: str | None = None,
) -> Network:
    """A head as its training begins: the pretrained layers `tail`, if any, dense layers of `hidden` units, and a readout.

    `features` is the shape of the trunk's output. What is new is drawn from `key`: kernels by Glorot & Bengio (2010), uniform;
    biases are zero. Without a key all that is new is zero: an outline.
    """
    draws = generator("head", key) if key is not None else None
    if tail is None:
        shape = (1, 1, *features) if len(features) == 1 else tuple(features)
        network = Network((Flatten(),), (shape[0], shape[1], shape[2]))
    else:
        network = tail if len(tail.output_shape) == 1 else tail.then(Flatten())
    inputs = network.output_shape[0]
    layers: list[Layer] = []
    for index, units in enumerate((*hidden, n_classes), 1):
        limit = np.sqrt(6 / (inputs + units))
        drawn = (
            draws.uniform(-limit, limit, (inputs, units)) if draws else np.zeros((inputs, units), np.float32)
        )
        is_last = index > len(hidden)
        layers.append(
            Dense(
                drawn.astype(np.float32),
                np.zeros(units, np.float32),
                "readout" if is_last else f"hidden{index}",
            )
        )
        layers += [] if is_last else [ReLU()]
        inputs = units
    return network.then(*layers)


def split_last(network: Network) -> tuple[Network, list[Dense]]:
    """A whole network as what leads to its last layer, and that layer."""
    last = network.layers[-1]
    assert isinstance(last, Dense), "a model ends in its readout"
    return network.up_to(network.reads[-1][0] - 1), [last]


def model_rules(
    given: str | Mapping[str, Any], bias: Bias, backbone: Network | None = None, hidden: int = 0
) -> tuple[Rule | None, ...]:
    """The rule of each layer of a backbone, of `hidden` dense layers and, last, of the readout, as a run finds them.

    Without a backbone, those of VGG-16: its weights decide how wide its layers are, not which there are. Raises InputError
    for a composite that is wrong or names what the model does not have.
    """
    one = np.zeros((1, 1), np.float32), np.zeros(1, np.float32)
    dense = [Dense(*one, f"hidden{index + 1}") for index in range(hidden)] + [Dense(*one, "readout")]
    if backbone is None:
        layers = _backbone(dict.fromkeys(LAYERS, (one[0][None, None], one[1])))
        return composite(given).rules((*layers, *dense), bias)
    count = len(backbone.layers)
    behind = tuple((count + index,) for index in range(len(dense)))
    return composite(given).rules((*backbone.layers, *dense), bias, (*backbone.reads, *behind))


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
