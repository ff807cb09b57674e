"""What a source of weights says of a backbone: its key, what it expects of its input, and its network."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from sweep.arrays import Array
from sweep.errors import InputError
from sweep.keys import key_of
from sweep.lrp import Conv, Dense, Network
from sweep.study import Pretraining

Layers = Mapping[str, tuple[Array, Array]]
"""Kernel (3, 3, in, out) and bias (out,) of each convolution, float32."""
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """What a backbone expects of its input: (pixels in `channel_order` - `mean`) * `scale` / `deviation`."""

    channel_order: Literal["RGB", "BGR"] = "BGR"
    mean: Triple = (103.939, 116.779, 123.68)
    """Channel means in `channel_order`, on the 0-255 scale; the default is ImageNet's, as in Caffe."""
    scale: float = 1.0
    deviation: Triple = (1.0, 1.0, 1.0)
    """By what each channel is divided, in `channel_order`."""

    def __call__(self, pixels: Array) -> Array:
        """Network input, float32, of RGB `pixels` uint8 (image, height, width, 3)."""
        result: Array = self.of_floats(pixels.astype(np.float32))
        return result

    def of_floats(self, pixels: Any) -> Any:
        """The same of float32 pixels from 0 to 255, an array or a tensor."""
        ordered = pixels if self.channel_order == "RGB" else pixels[..., ::-1]
        centred = (ordered - np.asarray(self.mean, np.float32)) * np.float32(self.scale)
        if self.deviation == (1.0, 1.0, 1.0):
            return centred
        return centred / np.asarray(self.deviation, np.float32)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest possible input of each channel, for rules that need the input's range."""
        low, high = (self(np.full((1, 1, 1, 3), value, np.uint8))[0, 0, 0] for value in (0, 255))
        return low, high

    def settings(self) -> dict[str, Any]:
        """What identifies it, as JSON-like values; a deviation of 1 is not said, as in keys made before there was one."""
        said = asdict(self)
        if self.deviation == (1.0, 1.0, 1.0):
            del said["deviation"]
        return said

    def overridden(self, given: Pretraining) -> "Preprocessing":
        """The same with what a study says instead."""
        order = given.channel_order or self.channel_order
        # What belongs to a channel moves with the order.
        turned = order != self.channel_order
        changed = replace(
            self,
            channel_order=order,
            mean=given.mean or (_turned(self.mean) if turned else self.mean),
            deviation=_turned(self.deviation) if turned else self.deviation,
        )
        if given.deviation is not None:
            changed = replace(changed, deviation=given.deviation)
        return changed if given.scale is None else replace(changed, scale=given.scale)


def _turned(channels: Triple) -> Triple:
    first, second, third = channels
    return third, second, first


def no_readout(size: int) -> Dense:
    """What a source without a dense layer says."""
    raise InputError(
        "readout: only models that Keras saved, keras:PATH, have a readout of their own; set it to trained"
    )


@dataclass(frozen=True)
class WeightSource:
    """Weights that can be named before they are loaded."""

    key: str
    """Hash of what determines the weights: a file's bytes, or a seed."""
    preprocessing: Preprocessing
    network: Callable[[int], Network]
    """The frozen part for square inputs of so many pixels. Raises InputError naming the file and the layer that is wrong."""
    trained_size: int | None = None
    """Pixels per side of the images that it was trained on, where that is known."""
    is_declared: bool = True
    """Whether the preprocessing is known, from the source or from the study."""
    is_vgg: bool = True
    """Whether it has the layers of VGG-16, which are known without reading it."""

    readout: Callable[[int], Dense] = no_readout
    """The last dense layer, as it is. Raises InputError where there is none."""

    def backbone_key(self, input_size: int, convolutions: str) -> str:
        """Key of the frozen part for images of a size, computed as the study's setting of that name says."""
        key = key_of("backbone", self.key, self.preprocessing.settings(), input_size)
        return key if convolutions == "winograd" else key_of(key, convolutions)

    def load(self) -> Layers:
        """Kernel and bias of each convolution by name."""
        layers = self.network(224).layers
        return {layer.name: (layer.kernel, layer.bias) for layer in layers if isinstance(layer, Conv)}
