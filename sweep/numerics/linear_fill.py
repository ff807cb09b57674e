"""The fill 'linear': removed pixels become what their neighbours suggest, and a little noise.

This is the noisy linear imputation of ROAD (Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for
Attribution Methods", section 5). Each removed pixel i meets the sum over its neighbours j inside the image of
w_ij (x_i - x_j) = 0, with w = 1/6 for the four direct neighbours and 1/12 for the four diagonal ones; pixels that are
not removed are known. Gaussian noise is added, so that the imputed region does not tell that it was imputed.

Pure TensorFlow. The systems of all rows are solved together, by conjugate gradients with a multigrid cycle (Tatebe 1993,
"The multigrid preconditioned conjugate gradient method") as the preconditioner. The number of iterations is fixed, so no
row depends on the others, and the host waits for nothing. The tests find errors below half a grey level for masks of
many shapes.

Inside, tensors are (1, height, width, plane): a plane is one channel of one masked image. Convolutions of each plane on
its own are fastest on that layout.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from sweep.arrays import Array
from sweep.keys import generator, key_of
from sweep.lrp.precision import full_precision

Tensor = Any

DEVIATION = 2.55
"""Standard deviation of the noise, in grey levels: 0.01 of the range, as in ROAD."""
TABLE = (32768, 64)
"""Blocks of the table of noise, and numbers in each. A row's noise starts at a block and runs on, past the end to the start."""
ITERATIONS = 4
"""Steps of conjugate gradients: with 3, the error can exceed half a grey level."""
SWEEPS = (1, 1, 3)
"""Jacobi sweeps before and after each coarser grid: on the image, on the first coarser grid, and on each further one, where
they cost little. With one sweep everywhere, errors reach two grey levels where 99 % of the pixels are removed."""
PLANES = 16
"""Planes are solved in multiples of this many; convolutions of other numbers take up to twice as long."""
MIDDLE = 128.0
"""Grey level that is subtracted before solving, so that float32 keeps more digits."""
WEIGHTS = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]], np.float32).reshape(3, 3, 1, 1)
"""Weights w of the neighbours, times 12: as whole numbers they add up without rounding."""

Weigh = Callable[[Tensor], Tensor]
"""Sums each pixel's neighbours, times their weights; those outside the image count as 0."""


class LinearFill:
    """Fills one mask's removed pixels on some images, in grey levels.

    A caller makes one per mask and set of images, and calls `fill` once per forward pass, with the rows of that pass:

        fill = LinearFill(images, image_keys, mask="first-identity-s1")
        removed = tf.gather(ranks, rows) < counts.reshape(-1, 1, 1, 1)
        inputs = preprocess(fill.fill(rows, counts, removed))
    """

    def __init__(self, images: Array, image_keys: Sequence[str], mask: str) -> None:
        """`images` are uint8 RGB (image, height, width, 3), `image_keys` their keys, and `mask` is the mask's name.

        Where all images are grey, one channel is solved in place of three.
        """
        grey = bool((images == images[..., :1]).all())
        self._images = tf.constant((images[..., :1] if grey else images).astype(np.float32))
        self._keys, self._mask = tuple(image_keys), mask
        self._program = _program(*self._images.shape[1:])

    @full_precision()
    def fill(self, rows: Array, counts: Array, removed: Tensor) -> Tensor:
        """Pixels of masked images: float32 (row, height, width, 3), on the scale from 0 to 255, on the device.

        `rows` says which image each row is, whole numbers (row,), and `counts` how many of its pixels are removed
        (row,); `removed` is True where they are, bool (row, height, width, 1). Other pixels stay as they are. The counts
        name the noise and are not compared with `removed`.

        Where all pixels are removed, nothing is known and the result is noise about the middle grey: use the fill
        'mean' there.
        """
        pairs = zip(rows.tolist(), counts.tolist(), strict=True)
        starts = [noise_start(self._keys[row], self._mask, count) for row, count in pairs]
        return self._program(
            self._images,
            tf.constant(rows, tf.int32),
            removed,
            tf.constant(starts, tf.int32),
            _table_on_device(),
        )


def noise_start(image_key: str, mask: str, count: int) -> int:
    """The block of the table where the noise of an image starts, under a mask that removes `count` of its pixels."""
    return int(key_of("linear fill", image_key, mask, count), 16) % TABLE[0]


def noise_table() -> Array:
    """The table of standard normal numbers that all noise is taken from, float32 (block, number).

    A masked image takes height x width x 3 numbers, in the order of its values: block after block from `noise_start`.
    """
    return generator("linear fill").standard_normal(TABLE, np.float32)


@functools.lru_cache(maxsize=1)
def _table_on_device() -> Tensor:
    return tf.constant(noise_table())


@functools.lru_cache(maxsize=8)
def _program(height: int, width: int, channels: int) -> Any:
    """The graph for images of one size, traced once for any number of rows."""

    def fill(images: Tensor, rows: Tensor, removed: Tensor, starts: Tensor, table: Tensor) -> Tensor:
        pixels = tf.gather(images, rows)
        mask = tf.broadcast_to(tf.cast(removed, tf.float32), tf.shape(pixels))
        solved = _from_planes(_solved(_to_planes(pixels - MIDDLE), _to_planes(mask)), tf.shape(pixels))
        noisy = solved + MIDDLE + DEVIATION * _noise(table, starts, (height, width, 3))
        return tf.where(removed, tf.clip_by_value(noisy, 0.0, 255.0), pixels)

    return tf.function(
        fill,
        autograph=False,
        input_signature=(
            tf.TensorSpec((None, height, width, channels)),
            tf.TensorSpec((None,), tf.int32),
            tf.TensorSpec((None, height, width, 1), tf.bool),
            tf.TensorSpec((None,), tf.int32),
            tf.TensorSpec(TABLE),
        ),
    )


def _noise(table: Tensor, starts: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Standard normal numbers (row, *shape) of rows that start at the blocks `starts` (row,)."""
    values = int(np.prod(shape))
    blocks = (starts[:, None] + tf.range(-(-values // TABLE[1]))) % TABLE[0]
    drawn = tf.reshape(tf.gather(table, blocks), (tf.shape(starts)[0], -1))
    return tf.reshape(drawn[:, :values], (-1, *shape))


def _to_planes(values: Tensor) -> Tensor:
    """(row, height, width, channel) as planes, with planes of zeros up to a multiple of PLANES."""
    _, height, width, channels = values.shape
    planes = tf.shape(values)[0] * channels
    side_by_side = tf.reshape(tf.transpose(values, (1, 2, 0, 3)), (1, height, width, planes))
    return tf.pad(side_by_side, ((0, 0), (0, 0), (0, 0), (0, -planes % PLANES)))


def _from_planes(planes: Tensor, shape: Tensor) -> Tensor:
    """What `_to_planes` was given, of that `shape`."""
    rows, height, width, channels = tf.unstack(shape)
    own = planes[..., : rows * channels]
    return tf.transpose(tf.reshape(own, (height, width, rows, channels)), (2, 0, 1, 3))


def _solved(values: Tensor, removed: Tensor) -> Tensor:
    """Planes `values` with the pixels imputed at which `removed` is 1, by preconditioned conjugate gradients."""
    kernel = tf.tile(WEIGHTS, (1, 1, tf.shape(values)[3], 1))

    def weigh(planes: Tensor) -> Tensor:
        return tf.nn.depthwise_conv2d(planes, kernel, (1, 1, 1, 1), "SAME")

    grids = _grids(removed, weigh)
    diagonal = _all_weights(values)
    solution = _first_guess(values, 1 - removed, weigh)
    residual = removed * (weigh(solution) - diagonal * solution)
    direction = better = _cycle(grids, residual, weigh)
    size = _sum(residual * better)
    for _ in range(ITERATIONS):
        change = removed * (diagonal * direction - weigh(direction))
        step = tf.math.divide_no_nan(size, _sum(direction * change))
        solution += step * direction
        residual -= step * change
        better = _cycle(grids, residual, weigh)
        size, before = _sum(residual * better), size
        direction = better + tf.math.divide_no_nan(size, before) * direction
    return solution


@dataclass(frozen=True)
class _Grid:
    """The system on one grid."""

    removed: Tensor
    """1 at pixels that are solved for."""
    inverse: Tensor
    """Inverse of the system's diagonal there, and 0 elsewhere."""
    sweeps: int
    """Jacobi sweeps before the coarser grids, and after them."""


def _grids(removed: Tensor, weigh: Weigh) -> list[_Grid]:
    """The system on the image, and on grids of half the height and width until 2 by 2 pixels are left.

    A coarse pixel is solved for where any of its four is. Its tie to known pixels adds up theirs, less where all four are
    solved for: their middle is then farther from what is known. At a straight edge 1/16 in place of 1/24 would be exact;
    scattered pixels need less.
    """
    known = removed * weigh(1 - removed)
    grids = [_grid(removed, known, weigh, SWEEPS[0])]
    while max(removed.shape[1:3]) > 2:
        share, ties = _halved(removed), 4 * _halved(known)
        removed = tf.cast(share > 0, tf.float32)
        known = ties / (1 + ties * tf.nn.relu(2 * share - 1) / 24)
        grids.append(_grid(removed, known, weigh, SWEEPS[min(len(grids), len(SWEEPS) - 1)]))
    return grids


def _grid(removed: Tensor, known: Tensor, weigh: Weigh, sweeps: int) -> _Grid:
    return _Grid(removed, tf.math.divide_no_nan(removed, removed * weigh(removed) + known), sweeps)


def _cycle(grids: Sequence[_Grid], wanted: Tensor, weigh: Weigh) -> Tensor:
    """About the solution of the finest grid's system for the right-hand side `wanted`, by one multigrid V-cycle.

    As many Jacobi sweeps follow the coarser grids as go before them, so that the cycle is symmetric, as conjugate
    gradients need it.
    """
    grid = grids[0]
    guess = change = wanted * grid.inverse
    for _ in range(grid.sweeps - 1):
        change = weigh(change) * grid.inverse
        guess += change
    if len(grids) > 1:
        left = grid.removed * weigh(change)
        coarse = _cycle(grids[1:], 4 * _halved(left), weigh)
        guess += grid.removed * _doubled(coarse, guess)
    for _ in range(grid.sweeps):
        guess = (wanted + weigh(guess)) * grid.inverse
    return guess


def _first_guess(values: Tensor, known: Tensor, weigh: Weigh) -> Tensor:
    """`values` where `known` is above 0; elsewhere the mean of what is known in the smallest square around that knows any."""
    if max(values.shape[1:3]) > 1:
        share = _halved(known)
        mean = tf.math.divide_no_nan(_halved(values * known), share)
        below = _doubled(_first_guess(mean, share, weigh), values)
        guess = tf.where(known > 0, values, below)
        swept = tf.math.divide_no_nan(weigh(guess), _all_weights(values))
        return tf.where(known > 0, guess, swept)
    return tf.where(known > 0, values, 0.0)


def _all_weights(planes: Tensor) -> Tensor:
    """Sum of the weights of all neighbours of each pixel that are inside the image: (1, height, width, 1)."""
    return tf.nn.depthwise_conv2d(tf.ones((1, *planes.shape[1:3], 1)), WEIGHTS, (1, 1, 1, 1), "SAME")


def _halved(planes: Tensor) -> Tensor:
    """Planes of half the height and width, means of four pixels each; a last row or column that is alone is joined by zeros."""
    _, height, width, _ = planes.shape
    padded = tf.pad(planes, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    return tf.nn.avg_pool2d(padded, 2, 2, "VALID")


def _doubled(planes: Tensor, like: Tensor) -> Tensor:
    """Planes of twice the height and width, bilinear, cut to the size of `like`."""
    _, height, width, _ = planes.shape
    twice = (2 * height, 2 * width)
    resized = tf.raw_ops.ResizeBilinear(images=planes, size=twice, half_pixel_centers=True)
    return resized[:, : like.shape[1], : like.shape[2]]


def _sum(planes: Tensor) -> Tensor:
    return tf.reduce_sum(planes, axis=(1, 2), keepdims=True)
