"""Masks from relevance: which pixels go first, how many go, and what takes their place.

Pure NumPy. A mask follows from the stored map alone, so anyone can rebuild it from the table `relevance`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import scipy.ndimage

from sweep.arrays import Array
from sweep.keys import generator

Order: TypeAlias = Literal["absolute", "positive", "negative", "least"]
Fill: TypeAlias = Literal["mean", "zero", "grey", "noise", "blur"]
"""What takes the place of removed pixels whatever the mask; `sweep.numerics.linear_fill` depends on the mask."""

BLUR = 1 / 16
"""Standard deviation of the Gaussian of the fill 'blur', as a share of the image's height: no feature of a face is left."""


@dataclass(frozen=True)
class Ranking:
    """Which map an image's mask is made from, and in which order its pixels go."""

    order: Order
    regions: int = 1
    """Side of the squares that go as a whole, pixels."""
    mean_map: bool = False
    """Whether the source's mean map of the other images stands for each image's own."""
    reverse: bool = False
    """Whether the pixels that would go last go first."""
    rows: tuple[int, ...] = ()
    """For each image the row of the map that stands for its own; nothing where it is the image's own."""
    drawn_for: str = ""
    """What a map with one value everywhere is ranked at random for, where it is not the source itself."""


def removal_ranks(maps: Array, order: Order = "absolute") -> Array:
    """Rank of each pixel in the order of removal, int32 (image, pixel), of `maps` (image, pixel).

    Rank 0 goes first: the pixel of the largest absolute relevance ('absolute', as in the paper, section 2.4), of the
    most positive, of the most negative, or of the smallest absolute relevance ('least'). Ties go by pixel index, row by
    row (but see `source_ranks`).
    """
    size = np.abs(maps)
    first_is_lowest = {"absolute": -size, "positive": -maps, "negative": maps, "least": size}[order]
    return _ranks(np.argsort(first_is_lowest, axis=1, kind="stable"))


def source_ranks(maps: Array, order: Order, source: str, image_ids: Sequence[str]) -> Array:
    """Ranks as in `removal_ranks` of the model `source`'s maps; a map with one value everywhere is ranked at random.

    Such a map prefers no pixel. By index its mask would grow from the top down, which is a pattern that no model chose and
    that hurts otherwise than scattered pixels do. The draw follows from the names of the model and the image.
    """
    ranks = removal_ranks(maps, order)
    for index in np.flatnonzero(np.ptp(maps, axis=1) == 0):
        ranks[index] = random_ranks(source, [image_ids[int(index)]], maps.shape[1])[0]
    return ranks


def random_ranks(mask: str, image_keys: Sequence[str], pixels: int) -> Array:
    """Ranks as in `removal_ranks` for the control `mask` ('random-k'): a permutation drawn per image."""
    return _ranks(np.stack([generator("random mask", mask, key).permutation(pixels) for key in image_keys]))


def region_ranks(maps: Array, shape: tuple[int, int], side: int) -> Array:
    """Rank of each pixel where whole square regions are removed, int32 (image, pixel), of `maps` (image, pixel).

    Images of `shape` (height, width) are cut from the top left corner into regions of `side` by `side` pixels; those at
    the right and lower edges hold what is left. The region of the largest sum of absolute relevance goes first. Its
    pixels follow each other, row by row; ties go by region, row by row.
    """
    regions = regions_of(shape, side)
    sums = np.stack([np.bincount(regions, np.abs(own)) for own in maps])
    return pixel_ranks(np.argsort(-sums, axis=1, kind="stable"), regions)


def regions_of(shape: tuple[int, int], side: int) -> Array:
    """Number of each pixel's region (pixel,), row by row, of images of `shape`; regions are those of `region_ranks`."""
    rows, columns = (np.arange(length) // side for length in shape)
    regions: Array = (rows[:, None] * (columns[-1] + 1) + columns).ravel()
    return regions


def pixel_ranks(order: Array, regions: Array) -> Array:
    """Ranks int32 (image, pixel) where regions are removed in `order`, numbers of regions (image, region).

    `regions` (pixel,) says which region each pixel belongs to; the pixels of one follow each other by index.
    """
    return _ranks(np.argsort(_ranks(order)[:, regions], axis=1, kind="stable"))


def removed_count(percent: float, pixels: int) -> int:
    """How many of `pixels` a mask of `percent` removes: the nearest whole number, halves upwards."""
    return int(pixels * percent / 100 + 0.5)


def replacements(
    fill: Fill, pixels: Array, image_keys: Sequence[str], preprocess: Callable[[Array], Array]
) -> Array:
    """What removed pixels become, as network input: float32 (image, height, width, channel), or (1, ...) where it is the
    same for every image.

    `pixels` are the images, uint8 RGB (image, height, width, 3), and `preprocess` makes network input of such values.
    'mean' is the channel mean, which preprocessing moves to 0; 'zero' black; 'grey' the middle of the range; 'noise'
    uniform and drawn per image; 'blur' the image itself without its detail (see BLUR).
    """
    one = (1, *pixels.shape[1:])
    if fill == "mean":
        return np.zeros(one, np.float32)
    if fill == "zero":
        return preprocess(np.zeros(one, np.float32))
    if fill == "grey":
        return preprocess(np.full(one, 127.5, np.float32))
    if fill == "noise":
        drawn = [generator("noise fill", key).integers(0, 256, pixels.shape[1:]) for key in image_keys]
        return preprocess(np.stack(drawn).astype(np.float32))
    deviation = BLUR * pixels.shape[1]
    blurred = scipy.ndimage.gaussian_filter(
        pixels.astype(np.float32), (0, deviation, deviation, 0), mode="nearest"
    )
    return preprocess(blurred)


def masked(inputs: Array, ranks: Array, count: int, replacement: Array | None = None) -> Array:
    """Network `inputs` (image, height, width, channel) with the first `count` pixels of `ranks` replaced.

    `replacement` is that of `replacements`; without one, the channel mean.
    """
    gone = (ranks < count).reshape(*inputs.shape[:3], 1)
    return np.where(gone, np.float32(0) if replacement is None else replacement, inputs)


def _ranks(order: Array) -> Array:
    ranks = np.empty(order.shape, np.int32)
    np.put_along_axis(ranks, order, np.arange(order.shape[1], dtype=np.int32)[None], axis=1)
    return ranks
