"""A network as a Keras model, of Keras 3 or of its legacy form."""

from collections.abc import Callable, Mapping
from typing import Any

from sweep.lrp.layers import (
    JOINS,
    WEIGHTED,
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    ReLU,
    Shape,
    ZeroPad,
)
from sweep.lrp.network import Network

Between = Mapping[int, Callable[[Any], Any]]
"""By the place of a layer, what becomes of the tensor that it reads."""


def to_keras(keras: Any, network: Network, leading: int = 0, between: Between | None = None) -> Any:
    """The layers from `leading` on as a model of `keras`, which is the module keras or tf_keras; its layers are float32."""
    tensors = {leading: keras.layers.Input(network.shapes[leading])}
    for place in range(leading, len(network.layers)):
        layer = network.layers[place]
        read = [tensors[tensor] for tensor in network.reads[place]]
        if between and place in between:
            read = [between[place](one) for one in read]
        made = _made(keras.layers, layer, network.shapes[network.reads[place][0]], name_of(place))
        tensors[place + 1] = made(read if isinstance(layer, JOINS) else read[0])
    model = keras.Model(tensors[leading], tensors[len(network.layers)])
    set_weights(model, network, leading)
    return model


def set_weights(model: Any, network: Network, leading: int = 0) -> None:
    """Give a model of `to_keras` the weights of a network of the same architecture."""
    for place in range(leading, len(network.layers)):
        layer = network.layers[place]
        if isinstance(layer, WEIGHTED):
            arrays = [layer.kernel, layer.bias]
        elif isinstance(layer, LeakyReLU) and layer.slope.size > 1:
            arrays = [layer.slope]
        else:
            continue
        made = model.get_layer(name_of(place))
        made.set_weights([array.reshape(w.shape) for array, w in zip(arrays, made.weights, strict=True)])


def name_of(place: int) -> str:
    """Name of the Keras layer that stands for the network's layer at a place: none of iNNvestigate's own names."""
    return f"layer_{place}"


def _made(kinds: Any, layer: Layer, before: Shape, name: str) -> Any:
    # Said for every layer, or ~/.keras/keras.json decides.
    plain: dict[str, Any] = {"name": name, "dtype": "float32"}
    image = plain | {"data_format": "channels_last"}
    if isinstance(layer, Conv | DepthwiseConv):
        settings = image | {
            "kernel_size": layer.kernel.shape[:2],
            "strides": layer.stride,
            "padding": layer.padding,
            "dilation_rate": layer.dilation,
        }
        if isinstance(layer, DepthwiseConv):
            return kinds.DepthwiseConv2D(depth_multiplier=layer.kernel.shape[3], **settings)
        return kinds.Conv2D(layer.kernel.shape[3], **settings)
    if isinstance(layer, Dense):
        return kinds.Dense(layer.bias.size, **plain)
    if isinstance(layer, MaxPool):
        return kinds.MaxPooling2D(layer.size, layer.stride, layer.padding, **image)
    if isinstance(layer, AveragePool):
        return kinds.AveragePooling2D(layer.size, layer.stride, layer.padding, **image)
    if isinstance(layer, ReLU):
        if layer.max_value is None:
            return kinds.Activation("relu", **plain)
        return kinds.ReLU(layer.max_value, **plain)
    if isinstance(layer, LeakyReLU):
        if layer.slope.size == 1:
            return kinds.LeakyReLU(float(layer.slope.ravel()[0]), **plain)
        # One slope per channel, or one per value.
        return kinds.PReLU(shared_axes=[1, 2] if layer.slope.size == before[-1] else None, **plain)
    if isinstance(layer, ZeroPad):
        return kinds.ZeroPadding2D(layer.padding, **image)
    if isinstance(layer, Add):
        return kinds.Add(**plain)
    if isinstance(layer, Concatenate):
        return kinds.Concatenate(**plain)
    if isinstance(layer, Multiply):
        return kinds.Multiply(**plain)
    # A network's dropout does nothing, in training neither.
    return kinds.Flatten(**image) if isinstance(layer, Flatten) else kinds.Dropout(0.0, **plain)
