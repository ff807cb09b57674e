"""Batch normalizations and softmaxes of a network that was read: folded into the layers beside them, or stripped."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np

from sweep.errors import InputError
from sweep.lrp.layers import Conv, Dense, DepthwiseConv, Dropout, FloatArray, Layer, Shape, output_shape
from sweep.lrp.network import Network


class Affine(NamedTuple):
    """A batch normalization at inference: scale · x + shift per channel, until it is folded."""

    scale: FloatArray
    shift: FloatArray
    name: str


class Softmax(NamedTuple):
    """A softmax, to be stripped where it is last."""

    name: str


Read: TypeAlias = Layer | Affine | Softmax
Linear: TypeAlias = Conv | DepthwiseConv | Dense


class ReadModel:
    """What was read of a model so far, in an order in which each part reads tensors before it, as in `Network`."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.parts: list[Read] = []
        self.reads: list[tuple[int, ...]] = []
        self.shapes: list[Shape] = [shape]

    def add(self, part: Read, *tensors: int) -> int:
        """Add a part that reads `tensors`, and return the tensor that it gives out. Raises InputError where it does not fit."""
        shapes = [self.shapes[tensor] for tensor in tensors]
        try:
            after = shapes[0] if isinstance(part, Affine | Softmax) else output_shape(part, shapes)
        except ValueError as error:
            raise InputError(f"from_keras: layer '{part.name}' {error}") from None
        self.parts.append(part)
        self.reads.append(tensors)
        self.shapes.append(after)
        return len(self.parts)

    def network(self) -> Network:
        """The network, folded and without its softmax. Raises InputError for a softmax that is not its last step."""
        self._strip_softmax()
        gone: dict[int, int] = {}
        for index, part in enumerate(self.parts):
            if isinstance(part, Affine):
                self._fold(index, part, gone)
        tensors = {0: 0}
        layers: list[Layer] = []
        reads: list[tuple[int, ...]] = []
        for index, part in enumerate(self.parts):
            if index + 1 in gone:
                tensors[index + 1] = tensors[gone[index + 1]]
                continue
            assert not isinstance(part, Affine | Softmax)
            layers.append(part)
            reads.append(tuple(tensors[tensor] for tensor in self.reads[index]))
            tensors[index + 1] = len(layers)
        height, width, channels = self.shapes[0]
        return Network(tuple(layers), (height, width, channels), tuple(reads))

    def _strip_softmax(self) -> None:
        count = len(self.parts)
        while count and isinstance(self.parts[count - 1], Softmax | Dropout):
            count -= 1
            if isinstance(self.parts[count], Softmax):
                break
        del self.parts[count:], self.reads[count:], self.shapes[count + 1 :]
        for part in self.parts:
            if isinstance(part, Softmax):
                raise InputError(
                    f"from_keras: layer '{part.name}' has a softmax that is not the model's last step"
                )

    def _fold(self, index: int, affine: Affine, gone: dict[int, int]) -> None:
        """Fold into the layer before, which only this part reads, else into the one after, else make it a layer."""
        before = self._before(index, gone)
        if before is not None:
            linear = self.parts[before]
            assert isinstance(linear, Linear)
            self.parts[before] = _before_affine(linear, affine)
            gone[index + 1] = self.reads[index][0]
            return
        after = self._after(index)
        part = None if after is None else self.parts[after]
        if after is not None and isinstance(part, Affine):
            self.parts[after] = Affine(
                part.scale * affine.scale, part.scale * affine.shift + part.shift, part.name
            )
        elif after is not None and isinstance(part, Linear) and _can_lead(affine, part):
            self.parts[after] = _after_affine(part, affine)
        else:
            self.parts[index] = _as_layer(affine, self.shapes[index])
            return
        gone[index + 1] = self.reads[index][0]

    def _before(self, index: int, gone: dict[int, int]) -> int | None:
        """The layer with weights that leads to this part and to nothing else."""
        (tensor,) = self.reads[index]
        while tensor and len(self._readers(tensor)) == 1:
            if tensor not in gone and isinstance(self.parts[tensor - 1], Linear):
                return tensor - 1
            if tensor not in gone and not isinstance(self.parts[tensor - 1], Dropout):
                return None
            (tensor,) = self.reads[tensor - 1]
        return None

    def _after(self, index: int) -> int | None:
        """The only part that reads this one's output."""
        readers = self._readers(index + 1)
        while len(readers) == 1 and isinstance(self.parts[readers[0]], Dropout):
            readers = self._readers(readers[0] + 1)
        return readers[0] if len(readers) == 1 else None

    def _readers(self, tensor: int) -> Sequence[int]:
        return [index for index, reads in enumerate(self.reads) for read in reads if read == tensor]


def _can_lead(affine: Affine, layer: Linear) -> bool:
    """Whether folding into the layer after is exact: padding must not see the shift."""
    return (
        isinstance(layer, Dense)
        or layer.padding == "valid"
        or layer.kernel.shape[:2] == (1, 1)
        or not affine.shift.any()
    )


def _before_affine(layer: Linear, affine: Affine) -> Linear:
    scale = affine.scale
    if isinstance(layer, DepthwiseConv):
        scale = scale.reshape(layer.kernel.shape[2:])
    return replace(layer, kernel=layer.kernel * scale, bias=layer.bias * affine.scale + affine.shift)


def _after_affine(layer: Linear, affine: Affine) -> Linear:
    kernel = layer.kernel
    shifted = kernel * affine.shift[:, None]
    if isinstance(layer, DepthwiseConv):
        moved = shifted.sum(axis=(0, 1)).ravel()
    else:
        moved = shifted.sum(axis=tuple(range(kernel.ndim - 1)))
    return replace(layer, kernel=kernel * affine.scale[:, None], bias=layer.bias + moved)


def _as_layer(affine: Affine, before: Shape) -> Layer:
    if len(before) == 1:
        return Dense(np.diag(affine.scale), affine.shift, affine.name)
    return DepthwiseConv(affine.scale[None, None, :, None], affine.shift, name=affine.name)
