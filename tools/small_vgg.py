"""The topology of the bundled backbones: VGG-16's thirteen convolutions and five pools at a quarter of its width.

Training uses batch normalisation because a plain VGG-16 hardly starts from scratch. Nothing of it is shipped:
`fold` writes each normalisation into the convolution before it, exactly, since both are affine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.arrays import Array

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

BLOCKS: tuple[tuple[int, int], ...] = ((2, 16), (2, 32), (3, 64), (3, 128), (3, 128))
"""(convolutions, channels) of each block."""

INPUT_SIZE = 64
"""Native height and width of the input in pixels; leaves 2 x 2 x 128 = 512 features."""

Arrays = dict[str, Array]


@dataclass(frozen=True)
class Preprocessing:
    """How pixels of 0-255 become the network's input: (pixels in `channel_order` - `mean`) x `scale`."""

    channel_order: str
    """"RGB" or "BGR"."""
    mean: tuple[float, float, float]
    """Subtracted per channel, in `channel_order`."""
    scale: float
    """Multiplied after the subtraction."""

    def to_json(self) -> str:
        """The text that the weight file carries."""
        return json.dumps({"channel_order": self.channel_order, "mean": list(self.mean), "scale": self.scale})

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Read the text that a weight file carries."""
        values = json.loads(text)
        red, green, blue = (float(value) for value in values["mean"])
        return cls(str(values["channel_order"]), (red, green, blue), float(values["scale"]))

    def apply(self, pixels: Array) -> Array:
        """Turn RGB pixels (..., 3) of 0-255 into the network's input."""
        ordered = pixels[..., ::-1] if self.channel_order == "BGR" else pixels
        inputs: Array = (ordered.astype(np.float32) - np.array(self.mean, np.float32)) * np.float32(
            self.scale
        )
        return inputs


def layer_names() -> Iterator[tuple[str, int]]:
    """Names and output channels of the thirteen convolutions, in order."""
    for block, (count, channels) in enumerate(BLOCKS, start=1):
        for convolution in range(1, count + 1):
            yield f"block{block}_conv{convolution}", channels


def build(*, batch_norm: bool) -> Any:
    """A Keras model from images of any size that survives five poolings to the last pool's output."""
    inputs = x = keras.Input((None, None, 3))
    names = layer_names()
    for block, (count, _) in enumerate(BLOCKS, start=1):
        for _ in range(count):
            name, channels = next(names)
            x = keras.layers.Conv2D(
                channels,
                3,
                padding="same",
                use_bias=not batch_norm,
                kernel_initializer="he_normal",
                activation=None if batch_norm else "relu",
                name=name,
            )(x)
            if batch_norm:
                x = keras.layers.BatchNormalization(momentum=0.95, name=f"{name}_norm")(x)
                x = keras.layers.ReLU(name=f"{name}_relu")(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(inputs, x)


def fold(model: Any) -> Arrays:
    """Kernels and biases that compute what `model` computes at inference, without its normalisations."""
    arrays: Arrays = {}
    for name, _ in layer_names():
        kernel = np.asarray(model.get_layer(name).kernel, np.float64)
        norm = model.get_layer(f"{name}_norm")
        gain = np.asarray(norm.gamma, np.float64) / np.sqrt(
            np.asarray(norm.moving_variance, np.float64) + norm.epsilon
        )
        arrays[f"{name}/kernel"] = kernel * gain
        arrays[f"{name}/bias"] = (
            np.asarray(norm.beta, np.float64) - np.asarray(norm.moving_mean, np.float64) * gain
        )
    return arrays


def save(path: Path, arrays: Arrays, preprocessing: Preprocessing) -> str:
    """Write the weights as float16 and return the file's SHA-256."""
    halves = {name: value.astype(np.float16) for name, value in arrays.items()}
    for name, value in halves.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{name} does not fit float16")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, preprocessing=np.array(preprocessing.to_json()), **halves)  # type: ignore[arg-type]
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(path: Path) -> tuple[Any, Preprocessing]:
    """The plain (convolution, ReLU, pool) model of a weight file, and its preprocessing."""
    model = build(batch_norm=False)
    with np.load(path, allow_pickle=False) as arrays:
        for name, _ in layer_names():
            weights = [arrays[f"{name}/{part}"].astype(np.float32) for part in ("kernel", "bias")]
            model.get_layer(name).set_weights(weights)
        return model, Preprocessing.from_json(str(arrays["preprocessing"]))
