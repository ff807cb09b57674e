"""Masks from relevance: which pixels go first, how many go, and what is left of the input.

Pure NumPy. A mask follows from the stored map alone, so anyone can rebuild it from the table `relevance`.
"""

from typing import Any

import numpy as np

from sweep.keys import generator

Array = np.ndarray[Any, Any]


def removal_ranks(maps: Array) -> Array:
    """Rank of each pixel in the order of removal, int32 (image, pixel), of `maps` (image, pixel).

    Rank 0 goes first: the pixel of the largest absolute relevance. Ties go by pixel index, row by row.
    """
    return _ranks(np.argsort(-np.abs(maps), axis=1, kind="stable"))


def random_ranks(mask: str, image_keys: tuple[str, ...], pixels: int) -> Array:
    """Ranks as in `removal_ranks` for the control `mask` ('random-k'): a permutation drawn per image."""
    return _ranks(np.stack([generator("random mask", mask, key).permutation(pixels) for key in image_keys]))


def removed_count(percent: float, pixels: int) -> int:
    """How many of `pixels` a mask of `percent` removes: the nearest whole number, halves upwards."""
    return int(pixels * percent / 100 + 0.5)


def masked(inputs: Array, ranks: Array, count: int) -> Array:
    """Preprocessed `inputs` (image, height, width, channel) with the first `count` pixels of `ranks` removed.

    A removed pixel becomes the channel mean, which preprocessing has moved to 0.
    """
    kept = (ranks >= count).reshape(*inputs.shape[:3], 1)
    return np.where(kept, inputs, np.float32(0))


def _ranks(order: Array) -> Array:
    ranks = np.empty(order.shape, np.int32)
    np.put_along_axis(ranks, order, np.arange(order.shape[1], dtype=np.int32)[None], axis=1)
    return ranks
