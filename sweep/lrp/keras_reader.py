"""Reads Keras 3 models: chains of layers, nested ones included, become a `Network`."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from sweep.errors import InputError
from sweep.lrp.agreement import check_agreement
from sweep.lrp.folding import Affine, Read, Softmax, folded, shape_after, without_softmax
from sweep.lrp.layers import (
    AveragePool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    FloatArray,
    MaxPool,
    ReLU,
    Shape,
    ZeroPad,
)
from sweep.lrp.network import Network


def from_keras(model: Any, input_shape: tuple[int, int, int] | None = None) -> Network:
    """Read a built Keras 3 model, Sequential or Functional, as a `Network` with copies of its weights.

    Models within models are unnested, a softmax at the end is stripped, and batch normalizations are folded into
    the layer before, else into the layer after; where neither is exact they become a 1x1 convolution. Layer names
    are kept. `input_shape` is (height, width, channels), needed where the model leaves its input size open.

    What was read is run beside the model on random images, so nothing that a layer does besides is left out unnoticed.

    Raises InputError that names any layer which cannot be treated, with the reason, and where the outputs differ.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise InputError(
            f"from_keras: needs a Keras 3 model, not {type(model).__module__}.{type(model).__name__}"
        )
    layers = list(_chain(model))
    shape = _input_shape(model, input_shape)
    read: list[Read] = []
    for layer in layers:
        before = shape_after(read, shape)
        read.extend(_read(layer, before))
    logits = without_softmax(read)
    network = Network(tuple(folded(logits, shape)), shape)
    check_agreement(model, network, stripped=any(isinstance(part, Softmax) for part in read))
    return network


def _input_shape(model: Any, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise InputError(f"from_keras: model '{model.name}' is not built; give it an Input layer")
    shape = tuple(inputs[0].shape[1:])
    if len(shape) != 3:
        raise InputError(
            f"from_keras: model '{model.name}' takes {shape}, not images (height, width, channels)"
        )
    if given is None and None in shape:
        raise InputError(
            f"from_keras: model '{model.name}' leaves its input size {shape} open; pass input_shape"
        )
    if given is not None and any(own not in (None, n) for own, n in zip(shape, given, strict=True)):
        raise InputError(f"from_keras: model '{model.name}' takes {shape}, not the input_shape {given}")
    return given or shape


def _chain(model: Any) -> Iterator[Any]:
    """The model's layers from input to output, nested models unnested."""
    import keras

    functional = keras.src.models.functional.Functional
    if isinstance(model, keras.Sequential):
        base, operations = keras.Sequential, list(model.layers)
    elif isinstance(model, functional):
        base, operations = functional, _path(model)
    else:
        raise InputError(
            f"from_keras: model '{model.name}' is neither Sequential nor Functional, so it has no chain"
        )
    if _overrides(model, base):
        raise InputError(
            f"from_keras: model '{model.name}' has a forward pass of its own, which cannot be read"
        )
    for operation in operations:
        if isinstance(operation, keras.Model):
            yield from _chain(operation)
        elif not isinstance(operation, keras.layers.InputLayer):
            yield operation


def _path(model: Any) -> list[Any]:
    """Operations of a Functional model, walked back from its output."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(f"from_keras: model '{model.name}' must have one input and one output")
    start, tensor = model.inputs[0], model.outputs[0]
    found = []
    while tensor is not start:
        history = tensor._keras_history
        operation = history.operation
        node = operation._inbound_nodes[history.node_index]
        if len(node.input_tensors) != 1:
            raise InputError(
                f"from_keras: layer '{operation.name}' ({type(operation).__name__}) joins {len(node.input_tensors)} "
                "inputs; only chains can be treated"
            )
        for name, value in node.arguments.kwargs.items():
            if value is not node.input_tensors[0] and value not in (None, False):
                raise _refuse(operation, f"is called with {name}={value}; only inference can be treated")
        found.append(operation)
        tensor = node.input_tensors[0]
    return found[::-1]


def _refuse(layer: Any, reason: str) -> InputError:
    return InputError(f"from_keras: layer '{layer.name}' ({type(layer).__name__}) {reason}")


def _read(layer: Any, before: Shape) -> list[Read]:
    import keras

    # By the classes themselves: a class of another library may have the name of one of Keras'.
    kinds = {getattr(keras.layers, name): name for name in _READERS}
    base = next((base for base in type(layer).__mro__ if base in kinds), None)
    if base is None or _overrides(layer, base):
        raise _refuse(layer, "is of a kind that cannot be treated")
    if getattr(layer, "quantization_mode", None):
        raise _refuse(
            layer, f"is quantised ({layer.quantization_mode}), so it computes with more than its kernel"
        )
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        raise _refuse(layer, "has its channels first; only channels-last models can be treated")
    return _READERS[kinds[base]](layer, before)


def _overrides(layer: Any, base: type) -> bool:
    """Whether a subclass of a Keras class has a forward pass of its own."""
    return any(
        getattr(type(layer), name, None) is not getattr(base, name, None)
        for name in ("call", "__call__", "convolution_op")
    )


def _array(layer: Any, variable: Any) -> FloatArray:
    array = np.asarray(variable).astype(np.float32)
    if not np.isfinite(array).all():
        raise _refuse(layer, "holds weights that are not finite")
    return array


def _activation(layer: Any, before: Shape) -> list[Read]:
    import keras

    activation = layer.activation
    if isinstance(activation, keras.layers.Layer):
        if type(activation).__name__ in ("ReLU", "Softmax", "Identity", "Activation"):
            return _read(activation, before)
        raise _refuse(layer, f"has the activation {type(activation).__name__}; {_TREATED}")
    name = getattr(activation, "__name__", str(activation))
    root = str(getattr(activation, "__module__", "")).split(".")[0]
    if root not in ("keras", "tensorflow"):  # an own function may have any name
        raise _refuse(layer, f"has the activation '{root}.{name}', which is none of Keras'; {_TREATED}")
    if name == "linear":
        return []
    if name == "relu":
        return [ReLU(layer.name)]
    if name == "softmax":
        return [Softmax(layer.name)]
    raise _refuse(layer, f"has the activation '{name}'; {_TREATED}")


_TREATED = "only relu and a softmax at the end can be treated"


def _linear(layer: Any) -> tuple[FloatArray, FloatArray]:
    """Kernel and bias; what LoRA adds is part of the kernel that Keras gives out."""
    kernel = _array(layer, layer.kernel)
    return kernel, _array(layer, layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)


def _conv(layer: Any, before: Shape) -> list[Read]:
    if layer.groups != 1:
        raise _refuse(layer, "has groups")
    if layer.padding not in ("same", "valid"):
        raise _refuse(layer, f"has the padding '{layer.padding}'")
    strides, dilation = tuple(layer.strides), tuple(layer.dilation_rate)
    conv = Conv(*_linear(layer), strides, layer.padding, dilation, layer.name)
    return [conv, *_activation(layer, before)]


def _dense(layer: Any, before: Shape) -> list[Read]:
    if len(before) != 1:
        raise _refuse(layer, "acts on an image; flatten it first")
    dense = Dense(*_linear(layer), layer.name)
    return [dense, *_activation(layer, (dense.bias.size,))]


def _pool(kind: type[MaxPool | AveragePool]) -> Callable[[Any, Shape], list[Read]]:
    return lambda layer, _: [kind(tuple(layer.pool_size), tuple(layer.strides), layer.padding, layer.name)]


def _global_pool(kind: type[MaxPool | AveragePool]) -> Callable[[Any, Shape], list[Read]]:
    def read(layer: Any, before: Shape) -> list[Read]:
        size = (before[0], before[1])
        pool = kind(size, size, "valid", layer.name)
        return [pool] if layer.keepdims else [pool, Flatten(layer.name)]

    return read


def _relu(layer: Any, _: Shape) -> list[Read]:
    if layer.max_value is not None or layer.negative_slope or layer.threshold:
        raise _refuse(layer, "is not the plain relu max(x, 0)")
    return [ReLU(layer.name)]


def _softmax(layer: Any, before: Shape) -> list[Read]:
    if layer.axis not in (-1, len(before)):
        raise _refuse(layer, f"runs over axis {layer.axis}, not over the classes")
    return [Softmax(layer.name)]


def _batch_norm(layer: Any, before: Shape) -> list[Read]:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, len(before)):
        raise _refuse(layer, f"normalizes axis {axis}, not the channels")
    mean, variance = (_array(layer, v).astype(np.float64) for v in (layer.moving_mean, layer.moving_variance))
    scale = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * _array(layer, layer.gamma)
    shift = -mean * scale
    if layer.center:
        shift = shift + _array(layer, layer.beta)
    return [Affine(scale.astype(np.float32), shift.astype(np.float32), layer.name)]


def _reshape(layer: Any, before: Shape) -> list[Read]:
    if tuple(layer.target_shape) not in ((-1,), (prod(before),)):
        raise _refuse(layer, f"reshapes to {tuple(layer.target_shape)}; only flattening can be treated")
    return [Flatten(layer.name)]


_READERS: dict[str, Callable[[Any, Shape], list[Read]]] = {
    "Conv2D": _conv,
    "Dense": _dense,
    "MaxPooling2D": _pool(MaxPool),
    "AveragePooling2D": _pool(AveragePool),
    "GlobalMaxPooling2D": _global_pool(MaxPool),
    "GlobalAveragePooling2D": _global_pool(AveragePool),
    "Activation": _activation,
    "ReLU": _relu,
    "Softmax": _softmax,
    "BatchNormalization": _batch_norm,
    "Flatten": lambda layer, _: [Flatten(layer.name)],
    "Reshape": _reshape,
    "ZeroPadding2D": lambda layer, _: [ZeroPad(tuple(map(tuple, layer.padding)), layer.name)],  # type: ignore[arg-type]
    "Identity": lambda layer, _: [],
    **dict.fromkeys(
        (
            "Dropout",
            "SpatialDropout2D",
            "AlphaDropout",
            "GaussianDropout",
            "GaussianNoise",
            "ActivityRegularization",
        ),
        lambda layer, _: [Dropout(layer.name)],
    ),
}
