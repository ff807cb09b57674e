"""Weights in Keras' older HDF5 layout: a group per layer, whose attribute `weight_names` lists its arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweep.errors import InputError

Array = np.ndarray[Any, Any]


def read_layers(path: Path, names: Sequence[str], place: str) -> dict[str, tuple[Array, Array]]:
    """Kernel and bias of the layers `names`, float32, by name.

    Raises InputError, opening with `place`, where the file is not in this layout or lacks a layer.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            return {name: _pair(root, name, f"{place}: {path}") for name in names}
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        line = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{place}: {path}: not a readable HDF5 file of weights: {line}") from None


def _pair(root: Mapping[str, Any], name: str, place: str) -> tuple[Array, Array]:
    import h5py

    group = root.get(name)
    if not isinstance(group, h5py.Group):
        raise InputError(f"{place}: lacks the layer '{name}'")
    listed = [
        label.decode() if isinstance(label, bytes) else str(label)
        for label in group.attrs.get("weight_names", ())
    ]
    arrays = [group.get(label) for label in listed]
    if len(arrays) != 2 or not all(isinstance(array, h5py.Dataset) for array in arrays):
        raise InputError(f"{place}: layer '{name}' holds {listed or 'nothing'}; expected a kernel and a bias")
    kernel, bias = (np.asarray(array, dtype=np.float32) for array in arrays)
    return kernel, bias
