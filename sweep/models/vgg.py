"""VGG-16 (Simonyan & Zisserman 2015): its convolutional part as the project's backbone, at any width."""

from collections.abc import Mapping

import numpy as np

from sweep.arrays import Array
from sweep.errors import InputError

BLOCKS = (2, 2, 3, 3, 3)
"""Convolutions per block; each block ends with a 2x2 max-pool."""
LAYERS = tuple(f"block{b}_conv{c}" for b, count in enumerate(BLOCKS, 1) for c in range(1, count + 1))
VGG16_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
"""Output channels of each convolution in the published network."""


def check_layers(layers: Mapping[str, tuple[Array, Array]], place: str) -> None:
    """Raise InputError, opening with `place`, naming the first layer whose shape or values are wrong."""
    channels = 3
    for name in LAYERS:
        kernel, bias = layers[name]
        if kernel.ndim != 4 or kernel.shape[:3] != (3, 3, channels) or bias.shape != kernel.shape[3:]:
            raise InputError(
                f"{place}: layer {name}: kernel {kernel.shape} with bias {bias.shape}; "
                f"expected (3, 3, {channels}, n) with (n,)"
            )
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise InputError(f"{place}: layer {name}: holds values that are not finite")
        if not kernel.any():
            raise InputError(
                f"{place}: layer {name}: its kernel holds zeros only, so nothing of the image passes"
            )
        channels = kernel.shape[3]
