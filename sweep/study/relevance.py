"""The block `relevance` of a study file: which relevance is propagated, and for which images."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from sweep.study.attribution import AnyComposite
from sweep.study.base import Settings
from sweep.study.problems import shortened


def _wanted(value: Any) -> Any:
    values = value if isinstance(value, list | tuple) else [value]
    if not values or any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in values):
        raise ValueError(f"must be a label, a number or a list of these (got {shortened(value)})")
    return value


Wanted = Annotated[str | int | float | list[str | int | float], pydantic.BeforeValidator(_wanted)]


class RelevanceImages(Settings):
    """Which images get maps and masks."""

    where: dict[str, Wanted] = Field(default_factory=dict)
    """Columns of the images table and the values to keep, as in {view_deg: 0} or {split: validation}."""
    per_identity: Annotated[int, Field(ge=1)] | None = None
    """Keep only so many images of each identity, chosen by a hash of the image."""


class Relevance(Settings):
    """Which relevance is propagated, and for which images."""

    engine: Literal["sweep", "innvestigate"] = "sweep"
    """What computes the maps: this package, or iNNvestigate itself, one map at a time in a process of its own."""
    composite: AnyComposite = "preset_a_flat"
    """Rules of LRP by layer: a preset's name, or a mapping (docs/lrp.md)."""
    bias: Literal["innvestigate", "split"] = "innvestigate"
    """What becomes of the relevance of biases (docs/lrp.md)."""
    images: RelevanceImages = RelevanceImages()
    """Which images get maps and masks; by default all."""
