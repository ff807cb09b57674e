"""What each layer of Keras 3 is to the engine."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from sweep.errors import InputError
from sweep.lrp.folding import Affine, Read, Softmax
from sweep.lrp.layers import (
    AveragePool,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    FloatArray,
    LeakyReLU,
    MaxPool,
    ReLU,
    Shape,
    ZeroPad,
)


def refuse(layer: Any, reason: str) -> InputError:
    """The error that names a layer and why it cannot be treated."""
    return InputError(f"from_keras: layer '{layer.name}' ({type(layer).__name__}) {reason}")


def read_layer(layer: Any, before: Shape) -> list[Read]:
    """What a Keras layer consists of; `before` is the shape that it reads. Raises InputError naming the layer."""
    import keras

    # By the classes themselves: a class of another library may have the name of one of Keras'.
    kinds = {getattr(keras.layers, name): name for name in _READERS}
    base = next((base for base in type(layer).__mro__ if base in kinds), None)
    if base is None or overrides(layer, base):
        raise refuse(layer, "is of a kind that cannot be treated")
    if getattr(layer, "quantization_mode", None):
        raise refuse(
            layer, f"is quantised ({layer.quantization_mode}), so it computes with more than its kernel"
        )
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        raise refuse(layer, "has its channels first; only channels-last models can be treated")
    return _READERS[kinds[base]](layer, before)


def overrides(layer: Any, base: type) -> bool:
    """Whether a subclass of a Keras class has a forward pass of its own."""
    return any(
        getattr(type(layer), name, None) is not getattr(base, name, None)
        for name in ("call", "__call__", "convolution_op")
    )


def _array(layer: Any, variable: Any) -> FloatArray:
    array = np.asarray(variable).astype(np.float32)
    if not np.isfinite(array).all():
        raise refuse(layer, "holds weights that are not finite")
    return array


def _activation(layer: Any, before: Shape) -> list[Read]:
    import keras

    activation = layer.activation
    if isinstance(activation, keras.layers.Layer):
        if type(activation).__name__ in ("ReLU", "LeakyReLU", "Softmax", "Identity", "Activation"):
            return read_layer(activation, before)
        raise refuse(layer, f"has the activation {type(activation).__name__}; {_TREATED}")
    name = getattr(activation, "__name__", str(activation))
    root = str(getattr(activation, "__module__", "")).split(".")[0]
    if root not in ("keras", "tensorflow"):  # an own function may have any name
        raise refuse(layer, f"has the activation '{root}.{name}', which is none of Keras'; {_TREATED}")
    if name == "linear":
        return []
    if name in ("relu", "relu6"):
        return [ReLU(layer.name, 6.0 if name == "relu6" else None)]
    if name == "leaky_relu":
        return [LeakyReLU(np.float32(0.2), layer.name)]  # type: ignore[arg-type]
    if name == "softmax":
        return [Softmax(layer.name)]
    raise refuse(layer, f"has the activation '{name}'; {_TREATED}")


_TREATED = "only relu, relu6, leaky_relu and a softmax at the end can be treated"


def _linear(layer: Any) -> tuple[FloatArray, FloatArray]:
    """Kernel and bias; what LoRA adds is part of the kernel that Keras gives out."""
    kernel = _array(layer, layer.kernel)
    return kernel, _array(layer, layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)


def _conv(layer: Any, before: Shape) -> list[Read]:
    if layer.groups != 1:
        raise refuse(layer, "has groups")
    if layer.padding not in ("same", "valid"):
        raise refuse(layer, f"has the padding '{layer.padding}'")
    strides, dilation = tuple(layer.strides), tuple(layer.dilation_rate)
    conv = Conv(*_linear(layer), strides, layer.padding, dilation, layer.name)
    return [conv, *_activation(layer, before)]


def _depthwise_kernel(layer: Any, name: str, bias: FloatArray | None) -> DepthwiseConv:
    """The convolution of each channel that `name` holds the kernel of; without a bias, it has none."""
    if layer.padding not in ("same", "valid"):
        raise refuse(layer, f"has the padding '{layer.padding}'")
    kernel = _array(layer, getattr(layer, name))
    bias = np.zeros(prod(kernel.shape[2:]), np.float32) if bias is None else bias
    strides, dilation = tuple(layer.strides), tuple(layer.dilation_rate)
    return DepthwiseConv(kernel, bias, strides, layer.padding, dilation, layer.name)


def _depthwise(layer: Any, before: Shape) -> list[Read]:
    bias = _array(layer, layer.bias) if layer.use_bias else None
    return [_depthwise_kernel(layer, "kernel", bias), *_activation(layer, before)]


def _separable(layer: Any, before: Shape) -> list[Read]:
    kernel = _array(layer, layer.pointwise_kernel)
    bias = _array(layer, layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)
    points = Conv(kernel, bias, padding="valid", name=layer.name)
    return [_depthwise_kernel(layer, "depthwise_kernel", None), points, *_activation(layer, before)]


def _dense(layer: Any, before: Shape) -> list[Read]:
    if len(before) != 1:
        raise refuse(layer, "acts on an image; flatten it first")
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
    if layer.threshold or (layer.negative_slope and layer.max_value is not None):
        raise refuse(
            layer, "is a relu with a threshold, or with a slope and an end; replace it by a plain one"
        )
    if layer.negative_slope:
        return [LeakyReLU(np.float32(layer.negative_slope), layer.name)]  # type: ignore[arg-type]
    return [ReLU(layer.name, None if layer.max_value is None else float(layer.max_value))]


def _leaky_relu(layer: Any, _: Shape) -> list[Read]:
    return [LeakyReLU(np.float32(layer.negative_slope), layer.name)]  # type: ignore[arg-type]


def _prelu(layer: Any, _: Shape) -> list[Read]:
    return [LeakyReLU(_array(layer, layer.alpha), layer.name)]


def _softmax(layer: Any, before: Shape) -> list[Read]:
    if layer.axis not in (-1, len(before)):
        raise refuse(layer, f"runs over axis {layer.axis}, not over the classes")
    return [Softmax(layer.name)]


def _batch_norm(layer: Any, before: Shape) -> list[Read]:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, len(before)):
        raise refuse(layer, f"normalizes axis {axis}, not the channels")
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
        raise refuse(layer, f"reshapes to {tuple(layer.target_shape)}; only flattening can be treated")
    return [Flatten(layer.name)]


_READERS: dict[str, Callable[[Any, Shape], list[Read]]] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "MaxPooling2D": _pool(MaxPool),
    "AveragePooling2D": _pool(AveragePool),
    "GlobalMaxPooling2D": _global_pool(MaxPool),
    "GlobalAveragePooling2D": _global_pool(AveragePool),
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
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
