"""Reads Keras 3 models: chains of layers, nested ones included, become a `Network`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from sweep.errors import InputError
from sweep.lrp.network import (
    AveragePool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    FloatArray,
    Layer,
    MaxPool,
    Network,
    ReLU,
    Shape,
    ZeroPad,
)


class _Affine(NamedTuple):
    """A batch normalization at inference: scale · x + shift per channel, until it is folded."""

    scale: FloatArray
    shift: FloatArray
    name: str


class _Softmax(NamedTuple):
    """A softmax, to be stripped where it is last."""

    name: str


_Read: TypeAlias = Layer | _Affine | _Softmax


def from_keras(model: Any, input_shape: tuple[int, int, int] | None = None) -> Network:
    """Read a built Keras 3 model, Sequential or Functional, as a `Network` with copies of its weights.

    Models within models are unnested, a softmax at the end is stripped, and batch normalizations are folded into
    the layer before, else into the layer after; where neither is exact they become a 1x1 convolution. Layer names
    are kept. `input_shape` is (height, width, channels), needed where the model leaves its input size open.

    Raises InputError that names any layer which cannot be treated, with the reason.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise InputError(
            f"from_keras: needs a Keras 3 model, not {type(model).__module__}.{type(model).__name__}"
        )
    layers = list(_chain(model))
    shape = input_shape or _input_shape(model)
    read: list[_Read] = []
    for layer in layers:
        before = _shape_after(read, shape)
        read.extend(_read(layer, before))
    return Network(tuple(_folded(_without_softmax(read), shape)), shape)


def _input_shape(model: Any) -> tuple[int, int, int]:
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise InputError(f"from_keras: model '{model.name}' is not built; give it an Input layer")
    shape = tuple(inputs[0].shape[1:])
    if len(shape) != 3:
        raise InputError(
            f"from_keras: model '{model.name}' takes {shape}, not images (height, width, channels)"
        )
    if None in shape:
        raise InputError(
            f"from_keras: model '{model.name}' leaves its input size {shape} open; pass input_shape"
        )
    return shape


def _chain(model: Any) -> Iterator[Any]:
    """The model's layers from input to output, nested models unnested."""
    import keras

    if isinstance(model, keras.Sequential):
        operations = list(model.layers)
    elif isinstance(model, keras.src.models.functional.Functional):
        operations = _path(model)
    else:
        raise InputError(
            f"from_keras: model '{model.name}' is neither Sequential nor Functional, so it has no chain"
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
        inputs = operation._inbound_nodes[history.node_index].input_tensors
        if len(inputs) != 1:
            raise InputError(
                f"from_keras: layer '{operation.name}' ({type(operation).__name__}) joins {len(inputs)} inputs; "
                "only chains can be treated"
            )
        found.append(operation)
        tensor = inputs[0]
    return found[::-1]


def _refuse(layer: Any, reason: str) -> InputError:
    return InputError(f"from_keras: layer '{layer.name}' ({type(layer).__name__}) {reason}")


def _read(layer: Any, before: Shape) -> list[_Read]:
    reader = next(
        (_READERS[base.__name__] for base in type(layer).__mro__ if base.__name__ in _READERS), None
    )
    if reader is None or (type(layer).__name__ not in _READERS and _computes_anew(layer)):
        raise _refuse(layer, "is of a kind that cannot be treated")
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        raise _refuse(layer, "has its channels first; only channels-last models can be treated")
    return reader(layer, before)


def _computes_anew(layer: Any) -> bool:
    """Whether a subclass of a Keras layer has a forward pass of its own."""
    return not type(layer).call.__module__.startswith("keras.")


def _array(variable: Any) -> FloatArray:
    return np.asarray(variable).astype(np.float32)


def _activation(layer: Any) -> list[_Read]:
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name == "linear":
        return []
    if name == "relu":
        return [ReLU(layer.name)]
    if name == "softmax":
        return [_Softmax(layer.name)]
    raise _refuse(layer, f"has the activation '{name}'; only relu and a softmax at the end can be treated")


def _conv(layer: Any, _: Shape) -> list[_Read]:
    if layer.groups != 1:
        raise _refuse(layer, "has groups")
    if layer.padding not in ("same", "valid"):
        raise _refuse(layer, f"has the padding '{layer.padding}'")
    kernel = _array(layer.kernel)
    bias = _array(layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)
    strides, dilation = tuple(layer.strides), tuple(layer.dilation_rate)
    return [Conv(kernel, bias, strides, layer.padding, dilation, layer.name), *_activation(layer)]


def _dense(layer: Any, before: Shape) -> list[_Read]:
    if len(before) != 1:
        raise _refuse(layer, "acts on an image; flatten it first")
    kernel = _array(layer.kernel)
    bias = _array(layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)
    return [Dense(kernel, bias, layer.name), *_activation(layer)]


def _pool(kind: type[MaxPool | AveragePool]) -> Callable[[Any, Shape], list[_Read]]:
    return lambda layer, _: [kind(tuple(layer.pool_size), tuple(layer.strides), layer.padding, layer.name)]


def _global_pool(kind: type[MaxPool | AveragePool]) -> Callable[[Any, Shape], list[_Read]]:
    def read(layer: Any, before: Shape) -> list[_Read]:
        size = (before[0], before[1])
        pool = kind(size, size, "valid", layer.name)
        return [pool] if layer.keepdims else [pool, Flatten(layer.name)]

    return read


def _relu(layer: Any, _: Shape) -> list[_Read]:
    if layer.max_value is not None or layer.negative_slope or layer.threshold:
        raise _refuse(layer, "is not the plain relu max(x, 0)")
    return [ReLU(layer.name)]


def _batch_norm(layer: Any, before: Shape) -> list[_Read]:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, len(before)):
        raise _refuse(layer, f"normalizes axis {axis}, not the channels")
    mean, variance = (np.asarray(v).astype(np.float64) for v in (layer.moving_mean, layer.moving_variance))
    scale = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.asarray(layer.gamma).astype(np.float64)
    shift = -mean * scale
    if layer.center:
        shift = shift + np.asarray(layer.beta).astype(np.float64)
    return [_Affine(scale.astype(np.float32), shift.astype(np.float32), layer.name)]


def _reshape(layer: Any, before: Shape) -> list[_Read]:
    if tuple(layer.target_shape) not in ((-1,), (prod(before),)):
        raise _refuse(layer, f"reshapes to {tuple(layer.target_shape)}; only flattening can be treated")
    return [Flatten(layer.name)]


_READERS: dict[str, Callable[[Any, Shape], list[_Read]]] = {
    "Conv2D": _conv,
    "Dense": _dense,
    "MaxPooling2D": _pool(MaxPool),
    "AveragePooling2D": _pool(AveragePool),
    "GlobalMaxPooling2D": _global_pool(MaxPool),
    "GlobalAveragePooling2D": _global_pool(AveragePool),
    "Activation": lambda layer, _: _activation(layer),
    "ReLU": _relu,
    "Softmax": lambda layer, _: [_Softmax(layer.name)],
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


def _shape_after(read: list[_Read], shape: tuple[int, int, int]) -> Shape:
    return Network(
        tuple(part for part in read if not isinstance(part, _Affine | _Softmax)), shape
    ).output_shape


def _without_softmax(read: list[_Read]) -> list[Layer | _Affine]:
    while read and isinstance(read[-1], _Softmax | Dropout):
        if isinstance(read[-1], _Softmax):
            read = read[:-1]
            break
        read = read[:-1]
    for part in read:
        if isinstance(part, _Softmax):
            raise InputError(
                f"from_keras: layer '{part.name}' has a softmax that is not the model's last step"
            )
    return [part for part in read if not isinstance(part, _Softmax)]


def _folded(read: list[Layer | _Affine], shape: tuple[int, int, int]) -> list[Layer]:
    """Fold each affine step into the linear layer before it, else the one after it, else make it a convolution."""
    done: list[Layer] = []
    waiting: _Affine | None = None
    for part in [*read, None]:
        before = Network(tuple(done), shape).output_shape
        if waiting is not None:
            if isinstance(part, _Affine):
                waiting = _Affine(
                    part.scale * waiting.scale, part.scale * waiting.shift + part.shift, part.name
                )
                continue
            if isinstance(part, Dropout):
                continue
            if isinstance(part, Conv | Dense) and _can_lead(waiting, part):
                part = _after_affine(part, waiting)
            else:
                done.append(_as_layer(waiting, before))
            waiting = None
        if part is None:
            break
        if isinstance(part, _Affine):
            if done and isinstance(done[-1], Conv | Dense):
                last = done[-1]
                done[-1] = replace(
                    last, kernel=last.kernel * part.scale, bias=last.bias * part.scale + part.shift
                )
            else:
                waiting = part
        else:
            done.append(part)
    return done


def _can_lead(affine: _Affine, layer: Conv | Dense) -> bool:
    """Whether folding into the layer after is exact: padding must not see the shift."""
    return (
        isinstance(layer, Dense)
        or layer.padding == "valid"
        or layer.kernel.shape[:2] == (1, 1)
        or not affine.shift.any()
    )


def _after_affine(layer: Conv | Dense, affine: _Affine) -> Conv | Dense:
    kernel = layer.kernel
    bias = layer.bias + (kernel * affine.shift[:, None]).sum(axis=tuple(range(kernel.ndim - 1)))
    return replace(layer, kernel=kernel * affine.scale[:, None], bias=bias)


def _as_layer(affine: _Affine, before: Shape) -> Layer:
    kernel = np.diag(affine.scale)
    if len(before) == 1:
        return Dense(kernel, affine.shift, affine.name)
    return Conv(kernel[None, None], affine.shift, name=affine.name)
