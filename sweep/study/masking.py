"""The block `masking` of a study file: which pixels are removed, what takes their place, and what stands beside the masks."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, field_validator, model_validator

from sweep.study.base import Settings

Percent = Annotated[float, Field(ge=0, le=100)]
Fill = Literal["mean", "linear", "zero", "grey", "noise", "blur"]
Control = Literal["other_image", "mean_map", "randomized", "reversed", "blocks", "scattered"]
DRAWN_ONCE = ("mean_map", "reversed")
"""Controls in which there is nothing to draw."""
LEAST_DRAWS: Mapping[str, int] = {"randomized": 3}
"""How often a control is drawn at least: maps of permuted networks differ much from draw to draw."""
SOURCELESS: Mapping[str, str] = {"scattered": "random", "blocks": "blocks"}
"""Controls that depend on no source, and what stands for one in the tables, numbered by the draw."""


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Masking(Settings):
    """Which pixels are removed from the destination's input."""

    percents: Annotated[tuple[Percent, ...], Field(min_length=1)] = (0, 0.1, 0.316, 1, 3.16, 10, 31.6, 100)
    """Shares of pixels to remove."""
    order: Literal["absolute", "positive", "negative", "least"] = "absolute"
    """Which pixels go first: those of the highest absolute relevance, the most positive, the most negative, or those of the
    lowest absolute relevance."""
    fills: Annotated[
        tuple[Fill, ...],
        Field(min_length=1),
        pydantic.BeforeValidator(_several, json_schema_input_type=Fill | tuple[Fill, ...]),
    ] = ("linear",)
    """What removed pixels become: imputed from their neighbours (linear), the channel mean (the paper's), black (zero),
    mid-grey, uniform noise, or the blurred image. With several, every mask is tried with each."""
    regions: Annotated[int, Field(ge=1, le=1024)] = 1
    """Side of the squares that are removed as a whole, pixels; they go by their summed absolute relevance."""
    controls: Annotated[
        tuple[Control, ...],
        pydantic.BeforeValidator(_several, json_schema_input_type=Control | tuple[Control, ...]),
    ] = ("other_image", "scattered")
    """Masks that remove as many pixels elsewhere: the source's map of another image of another class, its
    mean map of the other images, the source's map of the image with its weights permuted, the very map with the last pixels
    first, blocks of 8 x 8 pixels at random, single pixels at random."""
    control_draws: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often what is drawn in a control is drawn; `randomized` is drawn three times at least."""
    granularity: Literal["image", "cell"] = "image"
    """Rows of the table `masked`: one per image, or only the count of correct images per source, destination and percent,
    for studies with thousands of models."""

    @property
    def drawn_controls(self) -> list[tuple[Control, int]]:
        """Every control with the number of each of its draws."""
        return [(name, draw) for name in self.controls for draw in range(1, self.draws_of(name) + 1)]

    def draws_of(self, control: Control) -> int:
        """How often a control is drawn; 1 where there is nothing to draw."""
        return 1 if control in DRAWN_ONCE else max(self.control_draws, LEAST_DRAWS.get(control, 1))

    @field_validator("fills", "controls")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names one twice")
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _regions_are_ranked_by_size(self) -> "Masking":
        if self.regions > 1 and self.order != "absolute":
            raise ValueError("regions: go by their summed absolute relevance; leave order away")
        return self

    @field_validator("percents")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("must rise, each percent once")
        return value
