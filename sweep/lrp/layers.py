"""The layers that a network may consist of: plain arrays and settings, and the shape of what each gives out.

Axes are (image, height, width, channel); every array is float32. Layers compare by identity, so that what is prepared
for one can be kept for as long as it lives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from sweep.errors import InputError

FloatArray: TypeAlias = npt.NDArray[np.float32]
Padding: TypeAlias = Literal["same", "valid"]
Shape: TypeAlias = tuple[int, ...]


def _float32(layer: Any, *fields: str) -> None:
    for field in fields:
        object.__setattr__(layer, field, np.ascontiguousarray(getattr(layer, field), dtype=np.float32))


@dataclass(frozen=True, eq=False)
class Conv:
    """2-D convolution (cross-correlation, as in every deep-learning library) plus bias."""

    kernel: FloatArray
    """(kernel height, kernel width, input channels, output channels)."""
    bias: FloatArray
    """(output channels,)."""
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "same"
    dilation: tuple[int, int] = (1, 1)
    name: str = ""

    def __post_init__(self) -> None:
        _float32(self, "kernel", "bias")
        if self.kernel.ndim != 4 or self.bias.shape != self.kernel.shape[3:]:
            raise InputError(
                f"convolution '{self.name}': kernel {self.kernel.shape} and bias {self.bias.shape} do not fit; "
                "expected (height, width, in, out) and (out,)"
            )
        _check_padding(self)


@dataclass(frozen=True, eq=False)
class DepthwiseConv:
    """2-D convolution of each channel by itself plus bias; every channel has as many outputs."""

    kernel: FloatArray
    """(kernel height, kernel width, input channels, outputs per channel)."""
    bias: FloatArray
    """(input channels · outputs per channel,); the outputs of a channel follow each other."""
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "same"
    dilation: tuple[int, int] = (1, 1)
    name: str = ""

    def __post_init__(self) -> None:
        _float32(self, "kernel", "bias")
        if self.kernel.ndim != 4 or self.bias.shape != (prod(self.kernel.shape[2:]),):
            raise InputError(
                f"depthwise convolution '{self.name}': kernel {self.kernel.shape} and bias {self.bias.shape} do not fit; "
                "expected (height, width, in, outputs per channel) and (in · outputs per channel,)"
            )
        _check_padding(self)


@dataclass(frozen=True, eq=False)
class Dense:
    """Fully connected layer."""

    kernel: FloatArray
    """(inputs, outputs)."""
    bias: FloatArray
    """(outputs,)."""
    name: str = ""

    def __post_init__(self) -> None:
        _float32(self, "kernel", "bias")
        if self.kernel.ndim != 2 or self.bias.shape != self.kernel.shape[1:]:
            raise InputError(
                f"dense layer '{self.name}': kernel {self.kernel.shape} and bias {self.bias.shape} do not fit; "
                "expected (in, out) and (out,)"
            )


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Maximum over windows; of equal values the first in row order wins."""

    size: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (2, 2)
    padding: Padding = "valid"
    name: str = ""

    def __post_init__(self) -> None:
        _check_padding(self)


@dataclass(frozen=True, eq=False)
class AveragePool:
    """Mean over windows; padding does not count."""

    size: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (2, 2)
    padding: Padding = "valid"
    name: str = ""

    def __post_init__(self) -> None:
        _check_padding(self)


@dataclass(frozen=True, eq=False)
class ReLU:
    """max(x, 0), or no more than `max_value`."""

    name: str = ""
    max_value: float | None = None


@dataclass(frozen=True, eq=False)
class LeakyReLU:
    """x where it is above zero, else slope · x; a PReLU has slopes of its own."""

    slope: FloatArray
    """One number, one per channel, or one per value of the image."""
    name: str = ""

    def __post_init__(self) -> None:
        _float32(self, "slope")


@dataclass(frozen=True, eq=False)
class Flatten:
    """(height, width, channel) to one axis, in that order."""

    name: str = ""


@dataclass(frozen=True, eq=False)
class Dropout:
    """Does nothing at inference; kept so that a network mirrors its source."""

    name: str = ""


@dataclass(frozen=True, eq=False)
class ZeroPad:
    """Rows and columns of zeros around the image."""

    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    """((top, bottom), (left, right)), pixels."""
    name: str = ""


@dataclass(frozen=True, eq=False)
class Add:
    """The sum of two or more tensors of one shape."""

    name: str = ""


@dataclass(frozen=True, eq=False)
class Concatenate:
    """Two or more tensors beside each other, along the last axis."""

    name: str = ""


@dataclass(frozen=True, eq=False)
class Multiply:
    """The product of two tensors; an axis of one may be 1, as in squeeze-and-excite."""

    name: str = ""


Layer: TypeAlias = (
    Conv
    | DepthwiseConv
    | Dense
    | MaxPool
    | AveragePool
    | ReLU
    | LeakyReLU
    | Flatten
    | Dropout
    | ZeroPad
    | Add
    | Concatenate
    | Multiply
)
WEIGHTED = (Conv, DepthwiseConv, Dense)
"""Layers with a kernel: those that composites count, and call the first and the last."""
JOINS = (Add, Concatenate, Multiply)
"""Layers that read several tensors."""

KINDS: dict[type, str] = {
    Conv: "conv",
    DepthwiseConv: "depthwise_conv",
    Dense: "dense",
    MaxPool: "max_pool",
    AveragePool: "average_pool",
    ReLU: "relu",
    LeakyReLU: "leaky_relu",
    Flatten: "flatten",
    Dropout: "dropout",
    ZeroPad: "zero_pad",
    Add: "add",
    Concatenate: "concatenate",
    Multiply: "multiply",
}
"""Name of each layer kind, as used in files and messages."""


def output_shape(layer: Layer, shapes: Sequence[Shape]) -> Shape:
    """Shape of one image behind a layer that reads tensors of `shapes`. Raises ValueError where they do not fit."""
    if isinstance(layer, JOINS):
        return _joined_shape(layer, shapes)
    (shape,) = shapes
    if isinstance(layer, ReLU | Dropout):
        return shape
    if isinstance(layer, LeakyReLU):
        own = layer.slope.shape
        if len(own) > len(shape) or any(
            n not in (1, m) for n, m in zip(own[::-1], shape[::-1], strict=False)
        ):
            raise ValueError(f"has slopes {_times(layer.slope.shape)} for an input {_times(shape)}")
        return shape
    if isinstance(layer, Flatten):
        return (prod(shape),)
    if isinstance(layer, Dense):
        if shape != layer.kernel.shape[:1]:
            raise ValueError(f"takes {layer.kernel.shape[0]} inputs but gets {_times(shape)}")
        return (layer.kernel.shape[1],)
    if len(shape) != 3:
        raise ValueError(f"needs an image but gets {_times(shape)} values; is it behind a flatten?")
    height, width, channels = shape
    if isinstance(layer, ZeroPad):
        (top, bottom), (left, right) = layer.padding
        return (height + top + bottom, width + left + right, channels)
    if isinstance(layer, Conv | DepthwiseConv):
        if layer.kernel.shape[2] != channels:
            raise ValueError(f"takes {layer.kernel.shape[2]} channels but gets {_times(shape)}")
        window = [d * (k - 1) + 1 for k, d in zip(layer.kernel.shape[:2], layer.dilation, strict=True)]
        channels = layer.bias.size
    elif isinstance(layer, MaxPool | AveragePool):
        window = list(layer.size)
    else:
        raise ValueError("is of no kind the engine knows")
    sizes = [
        -(-n // s) if layer.padding == "same" else (n - k) // s + 1
        for n, k, s in zip((height, width), window, layer.stride, strict=True)
    ]
    if min(sizes) < 1:
        raise ValueError(f"has a window of {_times(tuple(window))}, larger than its input {_times(shape)}")
    return (*sizes, channels)


def _joined_shape(layer: Add | Concatenate | Multiply, shapes: Sequence[Shape]) -> Shape:
    listed = " and ".join(map(_times, shapes))
    first = shapes[0]
    if len(shapes) < 2 or (isinstance(layer, Multiply) and len(shapes) > 2):
        raise ValueError(
            f"reads {len(shapes)} tensors; it needs two{'' if isinstance(layer, Multiply) else ' or more'}"
        )
    if isinstance(layer, Add) and any(shape != first for shape in shapes):
        raise ValueError(f"adds tensors of different shapes, {listed}")
    if isinstance(layer, Concatenate):
        if any(shape[:-1] != first[:-1] for shape in shapes):
            raise ValueError(f"puts tensors beside each other that do not fit, {listed}")
        return (*first[:-1], sum(shape[-1] for shape in shapes))
    if isinstance(layer, Multiply):
        if any(len(shape) != len(first) for shape in shapes):
            raise ValueError(f"multiplies tensors that do not fit, {listed}")
        return np.broadcast_shapes(*shapes)
    return first


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _check_padding(layer: Conv | DepthwiseConv | MaxPool | AveragePool) -> None:
    if layer.padding not in ("same", "valid"):
        raise InputError(
            f"{KINDS[type(layer)]} '{layer.name}': padding '{layer.padding}' is neither 'same' nor 'valid'"
        )
