"""Networks of torchvision, from state dicts in safetensors: ResNet, VGG and AlexNet, told apart by the names of their arrays.

He et al. 2016 (with the stride in the 3x3 convolution, as torchvision has it), Simonyan & Zisserman 2015, and
Krizhevsky 2014. Images are RGB, standardised by channel. Kernels are turned from (out, in, height, width).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from sweep.arrays import Array
from sweep.data.decoding import is_file
from sweep.errors import InputError
from sweep.keys import key_of, key_of_file
from sweep.lrp import Add, AveragePool, Conv, Dense, Flatten, Layer, MaxPool, Network, ReLU, ZeroPad
from sweep.models.network import up_to_features
from sweep.models.safetensors import read_safetensors
from sweep.models.source import Preprocessing, WeightSource
from sweep.study import Pretraining

STANDARD = Preprocessing("RGB", (123.675, 116.28, 103.53), 1.0, (58.395, 57.12, 57.375))
TRAINED_SIZE = 224
EPSILON = 1e-5
"""What PyTorch adds to variances in batch normalisations."""

Arrays = Mapping[str, Array]


def open_torchvision(location: str, base: Path, place: str, given: Pretraining) -> WeightSource:
    """A state dict of torchvision. Raises InputError where there is no such file."""
    path = base / location
    if not is_file(path):
        raise InputError(f"{place}: no weight file {path}")
    if path.suffix != ".safetensors":
        raise InputError(
            f"{place}: {path}: state dicts are read as .safetensors, which hold no code; save it with "
            "safetensors.torch.save_file(model.state_dict(), 'NAME.safetensors')"
        )

    def network(input_size: int) -> Network:
        where = f"{place}: {path}"
        try:
            return up_to_features(_network(read_safetensors(path, place), input_size), given.features)
        except InputError as error:
            raise InputError(
                *(line if line.startswith(place) else f"{where}: {line}" for line in error.problems)
            ) from None
        except KeyError as error:
            raise InputError(f"{where}: lacks the array {error}") from None

    digest = key_of_file(path)
    key = digest if given.features is None else key_of(digest, given.features)
    return WeightSource(key, STANDARD, network, TRAINED_SIZE, is_vgg=False)


def _network(arrays: Arrays, size: int) -> Network:
    """The layers up to what the last dense layer sees."""
    if "conv1.weight" in arrays and "layer1.0.conv1.weight" in arrays:
        return _resnet(arrays, size)
    if "features.0.weight" in arrays:
        return _stack(arrays, size)
    raise InputError(
        f"holds no ResNet, VGG or AlexNet of torchvision; its arrays begin with {', '.join(sorted(arrays)[:3])}"
    )


class _Layers:
    """Layers that are added one after the other, with what they read."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.layers: list[Layer] = []
        self.reads: list[tuple[int, ...]] = []

    def add(self, layer: Layer, *tensors: int) -> int:
        self.layers.append(layer)
        self.reads.append(tensors or (len(self.layers) - 1,))
        return len(self.layers)

    def conv(self, name: str, norm: str | None, tensor: int, *, stride: int = 1, pad: int = 0) -> int:
        """A convolution with the batch normalisation behind it folded in, and zeros around the image as PyTorch has them."""
        kernel = _numbers(self.arrays, f"{name}.weight").transpose(2, 3, 1, 0)
        bias = np.zeros(kernel.shape[3])
        if f"{name}.bias" in self.arrays:
            bias = _numbers(self.arrays, f"{name}.bias")
        if norm is not None:
            weight, shift, mean, variance = (
                _numbers(self.arrays, f"{norm}.{part}")
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor = weight / np.sqrt(variance + EPSILON)
            kernel, bias = kernel * factor, (bias - mean) * factor + shift
        if pad and (stride > 1 or kernel.shape[0] != 2 * pad + 1):
            tensor = self.add(ZeroPad(((pad, pad), (pad, pad)), name), tensor)
            pad = 0
        return self.add(
            Conv(kernel, bias, (stride, stride), "same" if pad else "valid", name=name),
            tensor,
        )

    def network(self, size: int) -> Network:
        return Network(tuple(self.layers), (size, size, 3), tuple(self.reads))


def _numbers(arrays: Arrays, name: str) -> Array:
    array = arrays[name].astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"the array '{name}' holds values that are not finite")
    return array


def _resnet(arrays: Arrays, size: int) -> Network:
    made = _Layers(arrays)
    tensor = made.add(ReLU("relu"), made.conv("conv1", "bn1", 0, stride=2, pad=3))
    # A maximum over zeros around the image is one over nothing, as no value behind a ReLU is below zero.
    tensor = made.add(MaxPool((3, 3), (2, 2), name="maxpool"), made.add(ZeroPad(), tensor))
    for stage in range(1, 5):
        for block in _counted(arrays, f"layer{stage}."):
            tensor = _block(made, f"layer{stage}.{block}", tensor, 2 if stage > 1 and block == 0 else 1)
    shape = made.network(size).output_shape
    tensor = made.add(AveragePool((shape[0], shape[1]), (1, 1), name="avgpool"), tensor)
    made.add(Flatten("avgpool"), tensor)
    return made.network(size)


def _block(made: _Layers, name: str, tensor: int, stride: int) -> int:
    """A block of two 3x3 convolutions, or of three with 1x1 around a 3x3."""
    arrays, shortcut = made.arrays, tensor
    last = 3 if f"{name}.conv3.weight" in arrays else 2
    if made.arrays[f"{name}.conv2.weight"].shape[1] != made.arrays[f"{name}.conv1.weight"].shape[0]:
        raise InputError(
            f"layer '{name}.conv2' has groups, as in ResNeXt; only plain convolutions can be treated"
        )
    branch = tensor
    for index in range(1, last + 1):
        pad = arrays[f"{name}.conv{index}.weight"].shape[2] // 2
        # The first 3x3 convolution has the stride.
        step = stride if index == last - 1 else 1
        branch = made.conv(f"{name}.conv{index}", f"{name}.bn{index}", branch, stride=step, pad=pad)
        if index < last:
            branch = made.add(ReLU(f"{name}.relu"), branch)
    if f"{name}.downsample.0.weight" in arrays:
        shortcut = made.conv(f"{name}.downsample.0", f"{name}.downsample.1", tensor, stride=stride)
    return made.add(ReLU(name), made.add(Add(name), branch, shortcut))


def _stack(arrays: Arrays, size: int) -> Network:
    """VGG or AlexNet: convolutions in a row, pools between them, and all dense layers but the last."""
    made = _Layers(arrays)
    is_alexnet = arrays["features.0.weight"].shape[2] == 11
    convs = [index for index in _counted(arrays, "features.") if arrays[f"features.{index}.weight"].ndim == 4]
    tensor = 0
    for index, following in zip(convs, [*convs[1:], None], strict=True):
        name, pad = f"features.{index}", arrays[f"features.{index}.weight"].shape[2] // 2
        norm = f"features.{index + 1}" if f"features.{index + 1}.running_mean" in arrays else None
        first = is_alexnet and index == 0
        tensor = made.conv(name, norm, tensor, stride=4 if first else 1, pad=2 if first else pad)
        tensor = made.add(ReLU(name), tensor)
        # A layer more between two convolutions than normalisation and ReLU is a pool.
        if following is None or following - index > (3 if norm else 2):
            window = (3, 3) if is_alexnet else (2, 2)
            tensor = made.add(MaxPool(window, (2, 2), name=f"pool{index}"), tensor)
    shape = made.network(size).output_shape
    tensor = made.add(Flatten("flatten"), tensor)
    dense = list(_counted(arrays, "classifier."))[:-1]
    for place, index in enumerate(dense):
        name = f"classifier.{index}"
        kernel = _numbers(arrays, f"{name}.weight").T
        if place == 0:
            kernel = _by_place(kernel, shape, name)
        tensor = made.add(Dense(kernel, _numbers(arrays, f"{name}.bias"), name), tensor)
        tensor = made.add(ReLU(name), tensor)
    return made.network(size)


def _by_place(kernel: Array, shape: tuple[int, ...], name: str) -> Array:
    """A dense kernel (in, out) whose inputs come by channel, for inputs that come by place."""
    height, width, channels = shape
    if len(kernel) != height * width * channels:
        raise InputError(
            f"layer '{name}' takes {len(kernel):,} values, and {height} x {width} x {channels} arrive; set "
            f"dataset.input_size to {TRAINED_SIZE}, or features to a layer before it"
        )
    ordered = kernel.reshape(channels, height, width, -1).transpose(1, 2, 0, 3)
    return ordered.reshape(kernel.shape)


def _counted(arrays: Arrays, prefix: str) -> Iterator[int]:
    """The numbers that follow a prefix in the names of kernels, in order."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.(?:.*\.)?weight$")
    yield from sorted({int(found[1]) for name in arrays if (found := pattern.match(name))})
