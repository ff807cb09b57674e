"""Weights in Keras' older HDF5 layout: a group per layer, whose attribute `weight_names` lists its arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweep.arrays import Array
from sweep.errors import InputError


def check_hdf5(path: Path) -> None:
    """Raise ValueError where a file is not a whole HDF5 file."""
    import h5py

    try:
        with h5py.File(path, "r"):
            pass
    except OSError as error:
        raise ValueError(f"what came is not a readable HDF5 file: {error}") from None


def read_layers(path: Path, names: Sequence[str], place: str) -> dict[str, tuple[Array, Array]]:
    """Kernel and bias of the layers `names`, float32, by name.

    Further layers may only be dense ones, which a backbone does without. Raises InputError, opening with `place`, where
    the file is not in this layout, lacks a layer, or holds one that would change what the others compute.
    """
    import h5py

    where = f"{place}: {path}"
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            layers = {name: _pair(root, name, where) for name in names}
            for name in root:
                if name not in layers:
                    _check_dense(root, name, where)
            return layers
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        line = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where}: not a readable HDF5 file of weights: {line}") from None


def _arrays(root: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the layer's `weight_names` lists, by name; None where it is no array."""
    import h5py

    group = root.get(name)
    if not isinstance(group, h5py.Group):
        return {}
    listed = [
        label.decode() if isinstance(label, bytes) else str(label)
        for label in group.attrs.get("weight_names", ())
    ]
    found = {label: group.get(label) for label in listed}
    return {label: array if isinstance(array, h5py.Dataset) else None for label, array in found.items()}


def _pair(root: Mapping[str, Any], name: str, place: str) -> tuple[Array, Array]:
    if name not in root:
        raise InputError(f"{place}: lacks the layer '{name}'")
    arrays = _arrays(root, name)
    if len(arrays) != 2 or None in arrays.values():
        listed = ", ".join(arrays) or "nothing"
        raise InputError(f"{place}: layer '{name}' holds {listed}; expected a kernel and a bias")
    for label, array in arrays.items():
        if array.dtype.kind != "f":
            raise InputError(
                f"{place}: layer '{name}': '{label}' holds {array.dtype}, not floating-point numbers"
            )
    kernel, bias = (np.asarray(array, dtype=np.float32) for array in arrays.values())
    return kernel, bias


def _check_dense(root: Mapping[str, Any], name: str, place: str) -> None:
    dimensions = sorted(len(array.shape) for array in _arrays(root, name).values() if array is not None)
    if dimensions not in ([], [2], [1, 2]):
        raise InputError(
            f"{place}: holds the layer '{name}' beside those of VGG-16, so it is another network"
        )
