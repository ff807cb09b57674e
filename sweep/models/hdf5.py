"""Weights in Keras' older HDF5 layout: a group per layer, whose attribute `weight_names` lists its arrays."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    where = f"{place}: {path}"
    with _opened(path, where) as root:
        layers = {name: _pair(root, name, where) for name in names}
        for name in root:
            if name not in layers:
                _check_dense(root, name, where, "VGG-16")
        return layers


def read_parts(
    path: Path, wanted: Mapping[str, Sequence[str]], place: str, network: str
) -> dict[str, dict[str, Array]]:
    """Arrays of the layers `wanted` by layer and part, such as kernel or gamma, float32; `wanted` names each layer's parts.

    A layer may have slashes in its name. Further layers may only be dense ones. Raises InputError, opening with `place`,
    where the file is not in this layout, or a layer is missing, holds other parts or belongs to another network than
    `network`.
    """
    where = f"{place}: {path}"
    with _opened(path, where) as root:
        layers = {name: _parts(root, name, tuple(parts), where, network) for name, parts in wanted.items()}
        for name in _layer_names(root):
            if name not in layers:
                _check_dense(root, name, where, network)
        return layers


def has_layer(path: Path, name: str) -> bool:
    """Whether a file is one of weights with a layer of this name."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return name in file.get("model_weights", file)
    except OSError:
        return False


@contextmanager
def _opened(path: Path, where: str) -> Iterator[Any]:
    """The group that holds a file's layers."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file.get("model_weights", file)
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        line = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where}: not a readable HDF5 file of weights: {line}") from None


def _layer_names(root: Any) -> list[str]:
    """All layers, those in groups of groups, too."""
    found: list[str] = []
    root.visititems(lambda name, item: found.append(name) if "weight_names" in item.attrs else None)
    return found


def _parts(root: Any, name: str, parts: tuple[str, ...], place: str, network: str) -> dict[str, Array]:
    if name not in root:
        raise InputError(
            f"{place}: lacks the layer '{name}', so it does not hold {network} in the layout of keras-vggface; a whole model "
            "that Keras saved is named as keras:PATH"
        )
    arrays = {
        label.rpartition("/")[2].partition(":")[0]: array for label, array in _arrays(root, name).items()
    }
    if set(arrays) != set(parts) or None in arrays.values():
        listed = ", ".join(arrays) or "nothing"
        raise InputError(
            f"{place}: layer '{name}' holds {listed}; expected {', '.join(parts)}. Load the file into its own network, and "
            "save that by model.save('NAME.keras') for keras:NAME.keras"
        )
    return {part: _floats(array, f"{place}: layer '{name}': '{part}'") for part, array in arrays.items()}


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
    kernel, bias = (_floats(array, f"{place}: layer '{name}': '{label}'") for label, array in arrays.items())
    return kernel, bias


def _floats(array: Any, place: str) -> Array:
    if array.dtype.kind != "f":
        raise InputError(f"{place} holds {array.dtype}, not floating-point numbers")
    return np.asarray(array, dtype=np.float32)


def _check_dense(root: Mapping[str, Any], name: str, place: str, network: str) -> None:
    dimensions = sorted(len(array.shape) for array in _arrays(root, name).values() if array is not None)
    if dimensions not in ([], [2], [1, 2]):
        raise InputError(
            f"{place}: holds the layer '{name}' beside those of {network}, so it is another network"
        )
