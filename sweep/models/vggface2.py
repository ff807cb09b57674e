"""The ResNet-50 trained on VGGFace2 (Cao et al. 2018; He et al. 2016), from weights in the layout of keras-vggface.

Stages 2 to 5 of blocks of three convolutions, the stride in a block's first one, as in Caffe. Batch normalisations are
folded into the convolutions before them. Readouts see the last stage averaged over its places.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sweep.arrays import Array
from sweep.errors import InputError
from sweep.keys import key_of, key_of_file
from sweep.lrp import Add, AveragePool, Conv, Flatten, Layer, MaxPool, Network, ReLU
from sweep.models.hdf5 import read_parts
from sweep.models.network import up_to_features
from sweep.models.source import Preprocessing, WeightSource
from sweep.study import Pretraining

MEANS = Preprocessing("BGR", (91.4953, 103.8827, 131.0912))
"""Channel means of VGGFace2's images, as version 2 of keras-vggface's preprocessing subtracts them."""
TRAINED_SIZE = 224
BLOCKS: Mapping[int, int] = {2: 3, 3: 4, 4: 6, 5: 3}
"""Blocks of each stage."""
EPSILON = 1e-3
"""What Keras adds to variances in batch normalisations."""
STEM = "conv1/7x7_s2"
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
NAME = "VGGFace2's ResNet-50"

Parts = Mapping[str, Mapping[str, Array]]


def _sides() -> dict[str, int]:
    found = {STEM: 7}
    for stage, count in BLOCKS.items():
        for block in range(1, count + 1):
            name = f"conv{stage}_{block}"
            found |= {f"{name}_1x1_reduce": 1, f"{name}_3x3": 3, f"{name}_1x1_increase": 1}
            if block == 1:
                found[f"{name}_1x1_proj"] = 1
    return found


SIDES: Mapping[str, int] = _sides()
"""The side of every convolution's kernel, by the names that the layers have in a file."""
LAYERS: Mapping[str, tuple[str, ...]] = {
    name: parts for conv in SIDES for name, parts in ((conv, ("kernel",)), (f"{conv}/bn", NORM))
}
"""Every layer with weights, and the names of its arrays."""


def source_of_vggface2(path: Path, place: str, given: Pretraining) -> WeightSource:
    """The weights of a file, with or without its dense layers, which are left out.

    Its `network` raises InputError naming the layer that is missing, of another shape or of another network.
    """
    where = f"{place}: {path}"

    def network(input_size: int) -> Network:
        parts = read_parts(path, LAYERS, place, NAME)
        try:
            return up_to_features(_network(parts, input_size), given.features)
        except InputError as error:
            raise InputError(*(f"{where}: {line}" for line in error.problems)) from None

    digest = key_of_file(path)
    # The same bytes are another network to another source.
    key = key_of("vggface2", digest, given.features)
    return WeightSource(key, MEANS, network, TRAINED_SIZE, is_vgg=False)


def _network(parts: Parts, size: int) -> Network:
    layers: list[Layer] = []
    reads: list[tuple[int, ...]] = []

    def add(layer: Layer, *tensors: int) -> int:
        layers.append(layer)
        reads.append(tensors)
        return len(layers)

    def conv(name: str, channels: int, tensor: int, stride: int = 1) -> tuple[int, int]:
        kernel, bias = _folded(parts, name, channels)
        layer = Conv(kernel, bias, (stride, stride), "same", name=name)
        return add(layer, tensor), len(bias)

    tensor, channels = conv(STEM, 3, 0, 2)
    tensor = add(MaxPool((3, 3), (2, 2), "valid", name="pool"), add(ReLU(STEM), tensor))
    for stage, count in BLOCKS.items():
        for block in range(1, count + 1):
            name, stride = f"conv{stage}_{block}", 2 if stage > 2 and block == 1 else 1
            shortcut, before = tensor, channels
            for part in ("1x1_reduce", "3x3"):
                tensor, channels = conv(
                    f"{name}_{part}", channels, tensor, stride if part == "1x1_reduce" else 1
                )
                tensor = add(ReLU(f"{name}_{part}"), tensor)
            tensor, channels = conv(f"{name}_1x1_increase", channels, tensor)
            if block == 1:
                shortcut, before = conv(f"{name}_1x1_proj", before, shortcut, stride)
            if before != channels:
                raise InputError(
                    f"layer '{name}_1x1_increase' gives out {channels} channels, and {before} are added to them"
                )
            tensor = add(ReLU(name), add(Add(name), tensor, shortcut))
    rows, columns, _ = Network(tuple(layers), (size, size, 3), tuple(reads)).output_shape
    add(Flatten("avg_pool"), add(AveragePool((rows, columns), (1, 1), name="avg_pool"), tensor))
    return Network(tuple(layers), (size, size, 3), tuple(reads))


def _folded(parts: Parts, name: str, channels: int) -> tuple[Array, Array]:
    """Kernel and bias of a convolution together with its batch normalisation."""
    kernel = parts[name]["kernel"].astype(np.float64)
    side = SIDES[name]
    if kernel.ndim != 4 or kernel.shape[:3] != (side, side, channels):
        raise InputError(
            f"layer '{name}': its kernel is {kernel.shape}; expected ({side}, {side}, {channels}, n)"
        )
    norm = {part: array.astype(np.float64) for part, array in parts[f"{name}/bn"].items()}
    for part, array in norm.items():
        if array.shape != kernel.shape[3:]:
            raise InputError(
                f"layer '{name}/bn': {part} is {array.shape}, and the layer before it gives out {kernel.shape[3]} channels"
            )
    if not all(np.isfinite(array).all() for array in (kernel, *norm.values())):
        raise InputError(f"layer '{name}': it or its normalisation holds values that are not finite")
    if not kernel.any():
        raise InputError(f"layer '{name}': its kernel holds zeros only, so nothing of the image passes")
    factor = norm["gamma"] / np.sqrt(norm["moving_variance"] + EPSILON)
    return kernel * factor, norm["beta"] - norm["moving_mean"] * factor
