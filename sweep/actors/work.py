"""Pieces of work that travel to the actors: plain values, small enough to send by the thousand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import ray

from sweep.models.weights import Preprocessing
from sweep.storage.store import Store, Unit
from sweep.study import Masking


@dataclass(frozen=True)
class Context:
    """What every worker of a study shares; the arrays are in Ray's object store and sent to a node once."""

    store: Store
    schemas: Mapping[str, pa.Schema]
    """Columns of every table in this study."""
    image_ids: tuple[str, ...]
    image_keys: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]
    """Class names of each task, in the order of its readouts' columns."""
    labels: Mapping[str, tuple[int, ...]]
    """Class of every image for each task."""
    pixels: "ray.ObjectRef[Any]"
    """uint8 RGB (image, size, size, 3)."""
    layers: Mapping[str, "ray.ObjectRef[Any]"]
    """Convolution weights of each backbone."""
    preprocessing: Mapping[str, Preprocessing]
    worker_bytes: int = 0
    """Memory that a worker takes; 0 where the weights are not known."""


@dataclass(frozen=True)
class ModelRef:
    """A finetuned model as a worker needs it."""

    id: str
    task: str
    unit: Unit
    """The model's row in the table `models`, which names the weights."""
    stored: bool = True
    """Whether there is such a row; a model that could not be finetuned only holds its place among others."""


@dataclass(frozen=True)
class Features:
    """Features of some images on one backbone."""

    backbone: str
    images: tuple[int, ...]
    unit: Unit


@dataclass(frozen=True)
class Predictions:
    """The highest logits of one model for all images."""

    model: ModelRef
    features: tuple[Unit, ...]
    unit: Unit


@dataclass(frozen=True)
class Relevance:
    """Maps of several models on one backbone for the same images."""

    backbone: str
    images: tuple[int, ...]
    models: tuple[ModelRef, ...]
    units: tuple[Unit, ...]
    """One per model."""
    engine: Literal["sweep", "innvestigate"]
    composite: str | dict[str, Any]
    bias: Literal["innvestigate", "split"]


@dataclass(frozen=True)
class Similarity:
    """Correlations of each wanted model's maps with those of all models before it, for the same images."""

    images: tuple[int, ...]
    models: tuple[str, ...]
    maps: tuple[Unit, ...]
    """One per model."""
    wanted: tuple[tuple[int, Unit], ...]
    """Position in `models`, and the unit to write."""


@dataclass(frozen=True)
class Block:
    """Destinations that one matrix product answers for."""

    destinations: tuple[ModelRef, ...]
    units: tuple[tuple[tuple[int, ...], Unit], ...]
    """Units to write, each with the positions of its destinations in the block."""


@dataclass(frozen=True)
class Masked:
    """One source's masks on the inputs of all destinations that share a backbone."""

    source: str
    ranks: "ray.ObjectRef[Any]"
    """Order in which the source's pixels are removed, int32 (image, pixel)."""
    backbone: str
    images: tuple[int, ...]
    masking: Masking
    blocks: tuple[Block, ...]


Work = Features | Predictions | Relevance | Similarity | Masked


def units_of(work: Work) -> tuple[Unit, ...]:
    """The units that a piece of work writes."""
    match work:
        case Features() | Predictions():
            return (work.unit,)
        case Similarity():
            return tuple(unit for _, unit in work.wanted)
        case Relevance():
            return work.units
        case Masked():
            return tuple(unit for block in work.blocks for _, unit in block.units)
