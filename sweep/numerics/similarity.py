"""How alike the relevance maps of different models are (paper, section 2.3)."""

import numpy as np

from sweep.arrays import Array


def standardized(maps: Array) -> Array:
    """Each map of `maps` (image, pixel) moved to mean 0 and scaled to length 1, float64; NaN where it is constant."""
    centred = maps.astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.einsum("ip,ip->i", centred, centred))
    with np.errstate(invalid="ignore", divide="ignore"):
        centred /= lengths[:, None]
    return centred


def pearson(first: Array, second: Array) -> Array:
    """Pearson's r, float64 (image,), of two standardized sets of maps (image, pixel); NaN where one is constant."""
    r: Array = np.clip(np.einsum("ip,ip->i", first, second), -1, 1)
    return r
