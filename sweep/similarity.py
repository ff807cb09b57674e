"""How alike the relevance maps of different models are (paper, section 2.3)."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def pearson_matrix(maps: Array) -> Array:
    """Pearson's r between every two rows of `maps` (model, pixel), float64 (model, model).

    A constant map has no correlation with anything: its row and column are NaN.
    """
    centred = maps.astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(centred @ centred.T / np.outer(norms, norms), -1, 1)
