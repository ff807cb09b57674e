"""Batch normalizations and softmaxes of a chain that was read: folded into the layers beside them, or stripped."""

from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np

from sweep.errors import InputError
from sweep.lrp.layers import Conv, Dense, Dropout, FloatArray, Layer, Shape
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


def shape_after(read: list[Read], shape: tuple[int, int, int]) -> Shape:
    """Shape of one image behind what was read so far."""
    return Network(tuple(part for part in read if not isinstance(part, Affine | Softmax)), shape).output_shape


def without_softmax(read: list[Read]) -> list[Layer | Affine]:
    """Strip a softmax at the end. Raises InputError where there is one elsewhere."""
    while read and isinstance(read[-1], Softmax | Dropout):
        if isinstance(read[-1], Softmax):
            read = read[:-1]
            break
        read = read[:-1]
    for part in read:
        if isinstance(part, Softmax):
            raise InputError(
                f"from_keras: layer '{part.name}' has a softmax that is not the model's last step"
            )
    return [part for part in read if not isinstance(part, Softmax)]


def folded(read: list[Layer | Affine], shape: tuple[int, int, int]) -> list[Layer]:
    """Fold each affine step into the linear layer before it, else the one after it, else make it a convolution."""
    done: list[Layer] = []
    waiting: Affine | None = None
    for part in [*read, None]:
        before = Network(tuple(done), shape).output_shape
        if waiting is not None:
            if isinstance(part, Affine):
                waiting = Affine(
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
        if isinstance(part, Affine):
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


def _can_lead(affine: Affine, layer: Conv | Dense) -> bool:
    """Whether folding into the layer after is exact: padding must not see the shift."""
    return (
        isinstance(layer, Dense)
        or layer.padding == "valid"
        or layer.kernel.shape[:2] == (1, 1)
        or not affine.shift.any()
    )


def _after_affine(layer: Conv | Dense, affine: Affine) -> Conv | Dense:
    kernel = layer.kernel
    bias = layer.bias + (kernel * affine.shift[:, None]).sum(axis=tuple(range(kernel.ndim - 1)))
    return replace(layer, kernel=kernel * affine.scale[:, None], bias=bias)


def _as_layer(affine: Affine, before: Shape) -> Layer:
    kernel = np.diag(affine.scale)
    if len(before) == 1:
        return Dense(kernel, affine.shift, affine.name)
    return Conv(kernel[None, None], affine.shift, name=affine.name)
