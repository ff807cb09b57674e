"""A network as the engine sees it: a chain of layers that hold plain arrays.

Axes are (image, height, width, channel); every array is float32. Layers and networks compare by identity, so that
what is prepared for one can be kept for as long as it lives.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
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
    """max(x, 0)."""

    name: str = ""


@dataclass(frozen=True, eq=False)
class Flatten:
    """(height, width, channel) to one axis, in that order."""

    name: str = ""


@dataclass(frozen=True, eq=False)
class Dropout:
    """Does nothing at inference; kept so that a chain mirrors its source."""

    name: str = ""


@dataclass(frozen=True, eq=False)
class ZeroPad:
    """Rows and columns of zeros around the image."""

    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    """((top, bottom), (left, right)), pixels."""
    name: str = ""


Layer: TypeAlias = Conv | Dense | MaxPool | AveragePool | ReLU | Flatten | Dropout | ZeroPad

KINDS: dict[type, str] = {
    Conv: "conv",
    Dense: "dense",
    MaxPool: "max_pool",
    AveragePool: "average_pool",
    ReLU: "relu",
    Flatten: "flatten",
    Dropout: "dropout",
    ZeroPad: "zero_pad",
}
"""Name of each layer kind, as used in composites and messages."""


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of layers.

    Raises InputError, naming the layer, where one does not fit the output of the layer before it.
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, int, int]
    """(height, width, channels) of one image."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "input_shape", tuple(int(n) for n in self.input_shape))
        if len(self.input_shape) != 3 or min(self.input_shape) < 1:
            raise InputError(f"network: input shape {self.input_shape} is not (height, width, channels)")
        self.shapes  # noqa: B018  (checks that the layers fit)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of one image before each layer, and after the last."""
        return tuple(self._walk())

    @property
    def output_shape(self) -> Shape:
        """Shape of the network's output for one image."""
        return self.shapes[-1]

    def _walk(self) -> Iterator[Shape]:
        shape: Shape = self.input_shape
        yield shape
        for index, layer in enumerate(self.layers):
            try:
                shape = _output_shape(layer, shape)
            except ValueError as error:
                kind = KINDS.get(type(layer), type(layer).__name__)
                raise InputError(
                    f"network: layer {index} ({kind} '{getattr(layer, 'name', '')}') {error}"
                ) from None
            yield shape


def _output_shape(layer: Layer, shape: Shape) -> Shape:
    if isinstance(layer, ReLU | Dropout):
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
    if isinstance(layer, Conv):
        if layer.kernel.shape[2] != channels:
            raise ValueError(f"takes {layer.kernel.shape[2]} channels but gets {_times(shape)}")
        window = [d * (k - 1) + 1 for k, d in zip(layer.kernel.shape[:2], layer.dilation, strict=True)]
        channels = layer.kernel.shape[3]
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


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _check_padding(layer: Conv | MaxPool | AveragePool) -> None:
    if layer.padding not in ("same", "valid"):
        raise InputError(
            f"{KINDS[type(layer)]} '{layer.name}': padding '{layer.padding}' is neither 'same' nor 'valid'"
        )
