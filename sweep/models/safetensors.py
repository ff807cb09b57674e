"""Files in the format safetensors: a header of JSON that says where each array lies, and the arrays."""

import json
from pathlib import Path

import numpy as np

from sweep.arrays import Array
from sweep.errors import InputError

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "<u1"}
"""Types of values, as NumPy names them; BF16 has no such name and is widened."""
LARGEST_HEADER = 100_000_000
"""Bytes that the format allows a header."""


def read_safetensors(path: Path, place: str) -> dict[str, Array]:
    """Every array of a file by name. Raises InputError, opening with `place`, where the file is not in this format."""
    where = f"{place}: {path}"
    try:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        if not 2 <= size <= min(LARGEST_HEADER, len(content) - 8):
            raise ValueError(f"its header of {size:,} bytes is not in it")
        header, data = json.loads(content[8 : 8 + size]), memoryview(content)[8 + size :]
        return {
            name: _array(name, about["dtype"], tuple(about["shape"]), data[slice(*about["data_offsets"])])
            for name, about in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where}: not a readable safetensors file: {line}") from None


def _array(name: str, kind: str, shape: tuple[int, ...], data: memoryview) -> Array:
    if kind == "BF16":
        wide = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(shape)
    if kind not in TYPES:
        raise ValueError(f"the array '{name}' is of the type {kind}; known: {', '.join(TYPES)} and BF16")
    return np.frombuffer(data, TYPES[kind]).reshape(shape)
