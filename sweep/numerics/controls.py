"""Controls: orders of removal that keep something of a model's masks, but not what the model found in the image.

Pure NumPy. An effect of a mask counts only as far as it exceeds that of its control (Adebayo et al. 2018, "Sanity Checks
for Saliency Maps"; Rong et al. 2022). Draws follow from names alone, so anyone can repeat them.
"""

from collections.abc import Sequence
from math import isqrt

import numpy as np

from sweep.arrays import Array
from sweep.errors import InputError
from sweep.keys import generator
from sweep.numerics.masking import Ranking, pixel_ranks, region_ranks, regions_of, source_ranks

BLOCK = 8
"""Height and width of the blocks of `blocks`, in pixels."""


def other_image(source: str, image_keys: Sequence[str], classes: Array, draw: int) -> Array:
    """For each image, the position of an image of another class, whose map takes the place of its own: (image,).

    `classes` (image,) are the images' classes in the task of the model `source`. All images of other classes are equally likely.
    The draw follows from the names of the image and the model and from the number `draw`; the order of the images makes
    no difference to it.

    Raises InputError where all images are of one class.
    """
    if (classes == classes[0]).all():
        raise InputError(
            "control 'other_image': all images are of one class; add images of another, or leave this control out"
        )
    by_key = np.argsort(np.asarray(image_keys), kind="stable")
    ordered = classes[by_key]
    drawn = np.empty(len(image_keys), np.int64)
    for image, key in enumerate(image_keys):
        others = by_key[ordered != classes[image]]
        drawn[image] = generator("other image", source, key, draw).choice(others)
    return drawn


def mean_map(maps: Array) -> Array:
    """For each image, the mean absolute relevance in the maps of all other images: float32 (image, pixel).

    `maps` are one model's (image, pixel). The result shows what the model looks at in any image.

    Raises InputError where there is one image only.
    """
    if len(maps) < 2:
        raise InputError("control 'mean_map': there is no other image; add images, or leave this control out")
    size = np.abs(maps)
    total = size.sum(axis=0, dtype=np.float64)
    # Rounding can leave a little less than nothing where the other maps are 0.
    mean: Array = (np.maximum(total - size, 0) / (len(maps) - 1)).astype(np.float32)
    return mean


def mask_ranks(maps: Array, ranking: Ranking, source: str, image_ids: Sequence[str]) -> Array:
    """Ranks int32 (image, pixel) in which a mask removes pixels, made from the model `source`'s `maps` (image, pixel).

    `image_ids` name the maps' images. A map with one value everywhere is ranked at random, as in `source_ranks`.
    """
    names = list(image_ids)
    if ranking.mean_map:
        maps = mean_map(maps)
    if ranking.rows:
        maps, names = maps[list(ranking.rows)], [names[row] for row in ranking.rows]
    if ranking.regions == 1:
        ranks = source_ranks(maps, ranking.order, ranking.drawn_for or source, names)
    else:
        side = isqrt(maps.shape[1])
        ranks = region_ranks(maps, (side, side), ranking.regions)
    return maps.shape[1] - 1 - ranks if ranking.reverse else ranks


def blocks(mask: str, image_keys: Sequence[str], shape: tuple[int, int]) -> Array:
    """Ranks int32 (image, pixel) of the control `mask` ('blocks-k'): blocks of 8 by 8 pixels in random order.

    Images are of `shape` (height, width). The draw follows from the names of the mask and the image. Blocks are cut, and
    the pixels of a block follow each other, as in `sweep.numerics.masking.region_ranks`.
    """
    regions = regions_of(shape, BLOCK)
    count = int(regions[-1]) + 1
    order = np.stack([generator("random blocks", mask, key).permutation(count) for key in image_keys])
    return pixel_ranks(order, regions)
