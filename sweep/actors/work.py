"""Pieces of work that travel to the actors: plain values, small enough to send by the thousand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ray

from sweep.models.weights import Preprocessing
from sweep.store import Store, Unit


@dataclass(frozen=True)
class Context:
    """What every worker of a study shares; the arrays are in Ray's object store and sent to a node once."""

    store: Store
    image_ids: tuple[str, ...]
    image_keys: tuple[str, ...]
    pixels: "ray.ObjectRef[Any]"
    """uint8 RGB (image, size, size, 3)."""
    layers: Mapping[str, "ray.ObjectRef[Any]"]
    """Convolution weights of each backbone."""
    preprocessing: Mapping[str, Preprocessing]


@dataclass(frozen=True)
class ModelRef:
    """A finetuned model as a worker needs it."""

    id: str
    unit: Unit
    """The model's row in the table `models`, which names the weights."""
    classes: tuple[str, ...]
    targets: tuple[int, ...]
    """True class of each image of the piece of work."""


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
class Masked:
    """One source's masks on the inputs of several destinations that share a backbone."""

    source: str
    maps: tuple[Unit, ...]
    """The source's relevance; empty for a random mask."""
    backbone: str
    images: tuple[int, ...]
    percents: tuple[float, ...]
    destinations: tuple[ModelRef, ...]
    units: tuple[Unit, ...]
    """One per destination."""


Work = Features | Predictions | Relevance | Similarity | Masked


def units_of(work: Work) -> tuple[Unit, ...]:
    """The units that a piece of work writes."""
    match work:
        case Features() | Predictions():
            return (work.unit,)
        case Similarity():
            return tuple(unit for _, unit in work.wanted)
        case Relevance() | Masked():
            return work.units
