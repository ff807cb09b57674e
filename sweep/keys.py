"""Content keys: a unit of work is named by a hash of everything that determines its result."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sweep.arrays import Array

KEY_LENGTH = 20
"""Hexadecimal digits of a key: 80 bits, so 10 million units collide with a chance below 1e-10."""


def key_of(*parts: Any) -> str:
    """Key of JSON-like `parts` (strings, numbers, lists, mappings); mappings are order-free, lists are not.

    Raises TypeError where a part is no JSON value, rather than hashing its memory address.
    """
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_LENGTH]


def sortable(value: Any) -> Any:
    """`value` with keys that can be sorted: a mapping whose keys are of several kinds gets text as keys.

    Raises ValueError where two keys are the same text.
    """
    if not isinstance(value, Mapping):
        return value
    mixed = len({type(key) for key in value}) > 1
    found: dict[Any, Any] = {}
    for key, inside in value.items():
        name = str(key) if mixed else key
        if name in found:
            raise ValueError(f"names {name} more than once")
        found[name] = sortable(inside)
    return found


def key_of_array(array: Array) -> str:
    """Key of an array's type, shape and values."""
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).hexdigest()[:KEY_LENGTH]


def key_of_file(path: Path) -> str:
    """Key of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:KEY_LENGTH]


def generator(*parts: Any) -> np.random.Generator:
    """Random generator seeded by a key, so that draws depend on what they are for and never on call order."""
    return np.random.default_rng(int(key_of(*parts), 16))
