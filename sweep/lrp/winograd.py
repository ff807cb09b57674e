"""3x3 convolutions in fewer multiplications, by Winograd's minimal filtering (Lavin & Gray 2016).

An output tile of TILE x TILE pixels comes from (TILE + 2)² products per pair of channels, where the plain sum takes
9 TILE². The products of all tiles are one batched matrix product; what surrounds it are additions, which XLA fuses.
"""

import functools
import operator
import os
from collections.abc import Sequence
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Tensor: TypeAlias = Any

TILE = 4
"""Output pixels per side of a tile: 36 products where the plain sum has 144."""
LEAST_CHANNEL_PAIRS = 64 * 128
"""Input times output channels from which the fewer products outweigh the additions around them, on a CPU."""
LEAST_PRODUCTS = 4_000_000
"""Channel pairs times pixels from which they outweigh the second or so that XLA takes to compile a layer."""
NEAR_BYTES = 32 * 2**20
"""Tiles of so many bytes, and their products, are handled together: about what stays in a processor's cache."""
LEAST_PRODUCTS_FORWARD = 40_000_000
"""The same for the forward pass, which meets batches of several sizes, each compiled by itself: from about 112 px on."""
PAYS = not tf.config.list_physical_devices("GPU")
"""On a GPU cuDNN chooses such algorithms by itself."""

# For the interpolation points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
_WINDOW = TILE + 2


def factors(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A kernel (3, 3, in, out) as the factors of the products: float32 (36, in, out)."""
    matrix = np.asarray(_KERNEL)
    both = np.einsum("ai,bj,ijcd->abcd", matrix, matrix, kernel.astype(np.float64), optimize=True)
    flat: npt.NDArray[np.float32] = both.reshape(-1, *kernel.shape[2:]).astype(np.float32)
    return flat


def convolution(x: Tensor, factors: Tensor) -> Tensor:
    """The convolution of x (image, height, width, in), 'same' padding and stride 1, by the kernel behind `factors`.

    A few images at a time, so that their tiles stay near the processor.
    """
    _, height, width, channels = x.shape
    wider = max(channels, factors.shape[-1])
    some = _images_at_a_time(height, width, wider)
    count = tf.shape(x)[0]

    def of_few(images: Tensor) -> Tensor:
        products = tf.matmul(_to_tiles(height, width, channels)(images), factors)
        return _to_images(height, width, factors.shape[-1])(products)

    def of_many() -> Tensor:
        whole = count // some * some
        done = tf.map_fn(
            of_few,
            tf.reshape(x[:whole], (-1, some, height, width, channels)),
            parallel_iterations=tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
            fn_output_signature=tf.TensorSpec((some, height, width, factors.shape[-1])),
        )
        done = tf.reshape(done, (-1, height, width, factors.shape[-1]))
        return tf.cond(count == whole, lambda: done, lambda: tf.concat([done, of_few(x[whole:])], axis=0))

    y = tf.cond(count <= some, lambda: of_few(x), of_many)
    return tf.ensure_shape(y, (None, height, width, factors.shape[-1]))


def _images_at_a_time(height: int, width: int, channels: int) -> int:
    tiles = -(-height // TILE) * -(-width // TILE)
    return int(max(1, NEAR_BYTES // (4 * _WINDOW**2 * tiles * channels)))


@functools.cache
def _to_tiles(height: int, width: int, channels: int) -> Any:
    """From images to transformed tiles, (36, image · tile, channel)."""
    rows, columns = -(-height // TILE), -(-width // TILE)

    def transform(x: Tensor) -> Tensor:
        below, right = rows * TILE + 1 - height, columns * TILE + 1 - width
        x = tf.pad(x, [(0, 0), (1, below), (1, right), (0, 0)])
        last_row, last_column = (rows - 1) * TILE + 1, (columns - 1) * TILE + 1
        lines = _combined(_INPUT, [x[:, i : i + last_row : TILE] for i in range(_WINDOW)])
        tiles = [
            _combined(_INPUT, [line[:, :, j : j + last_column : TILE] for j in range(_WINDOW)])
            for line in lines
        ]
        return tf.reshape(tf.stack(tiles), (_WINDOW**2, -1, channels))

    return _compiled(transform, (None, height, width, channels))


@functools.cache
def _to_images(height: int, width: int, channels: int) -> Any:
    """From products, (36, image · tile, channel), to images."""
    rows, columns = -(-height // TILE), -(-width // TILE)

    def transform(products: Tensor) -> Tensor:
        square = tf.reshape(products, (_WINDOW, _WINDOW, -1, rows, columns, channels))
        lines = [_combined(_OUTPUT, tf.unstack(line)) for line in _combined(_OUTPUT, tf.unstack(square))]
        tiles = tf.stack([tf.stack(line, axis=3) for line in lines], axis=2)
        return tf.reshape(tiles, (-1, rows * TILE, columns * TILE, channels))[:, :height, :width]

    return _compiled(transform, (_WINDOW**2, None, channels))


def _compiled(transform: Any, shape: tuple[int | None, ...]) -> Any:
    """By XLA, which makes one pass through memory of the many additions."""
    return tf.function(transform, jit_compile=True, autograph=False, input_signature=[tf.TensorSpec(shape)])


def _combined(matrix: Sequence[Sequence[float]], parts: Sequence[Tensor]) -> list[Tensor]:
    """The matrix times the vector of parts, written as the few additions that it is."""
    return [
        reduce(operator.add, [part if c == 1 else c * part for c, part in zip(row, parts, strict=True) if c])
        for row in matrix
    ]
