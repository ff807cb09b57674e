"""Matrices as Arrow list columns and back, without touching the values one by one."""

import numpy as np
import pyarrow as pa

from sweep.arrays import Array


def lists(matrix: Array) -> pa.Array:
    """Rows of a float32 `matrix` (row, value) as a list column."""
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(matrix, np.float32).ravel()))


def matrix(column: pa.ChunkedArray) -> Array:
    """A list column of equally long lists as a float32 matrix (row, value)."""
    values: Array = np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
    return values.reshape(len(column), -1)
