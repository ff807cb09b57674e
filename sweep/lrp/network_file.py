"""A network as a file: an npz archive without pickles, its layers described in JSON beside their arrays."""

import io
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from sweep.lrp.layers import KINDS
from sweep.lrp.network import Network


def to_bytes(network: Network, settings: Mapping[str, Any]) -> bytes:
    """A network and JSON-like settings as an npz file; the same network always gives the same bytes."""
    arrays: dict[str, Any] = {}
    layers = []
    for index, layer in enumerate(network.layers):
        described = {"kind": KINDS[type(layer)]}
        for field in fields(layer):
            value = getattr(layer, field.name)
            if isinstance(value, np.ndarray):
                arrays[f"{index}/{field.name}"] = value
            else:
                described[field.name] = value
        layers.append(described)
    description = {
        "layers": layers,
        "input_shape": network.input_shape,
        "reads": network.reads,
        "settings": dict(settings),
    }
    buffer = io.BytesIO()
    np.savez(buffer, description=np.array(json.dumps(description)), **arrays)
    return buffer.getvalue()


def from_bytes(content: bytes) -> tuple[Network, dict[str, Any]]:
    """Read what `to_bytes` wrote. Raises ValueError or KeyError where `content` is something else."""
    kinds: dict[str, Any] = {name: kind for kind, name in KINDS.items()}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        description = json.loads(str(arrays["description"]))
        layers = []
        for index, described in enumerate(description["layers"]):
            kind = kinds[described.pop("kind")]
            settings = {key: _tuples(value) for key, value in described.items()}
            held = {field.name for field in fields(kind)} & {"kernel", "bias", "slope"}
            layers.append(kind(**settings, **{name: arrays[f"{index}/{name}"] for name in held}))
    reads = _tuples(description["reads"])
    return Network(tuple(layers), tuple(description["input_shape"]), reads), description["settings"]


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
