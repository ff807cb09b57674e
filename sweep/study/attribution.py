"""Levels of the factor attribution: how a map is made that says which pixels a model's decision came from."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, model_validator

from sweep.keys import sortable
from sweep.study.base import Settings
from sweep.study.problems import shortened

Baseline = Literal["mean", "zero", "grey", "noise", "blur"]
"""An image without evidence, as the fills make it of every pixel."""


def composite_of(value: Any) -> Any:
    """A composite as it is kept: a preset's name, or a mapping whose keys can be sorted."""
    if not isinstance(value, str | Mapping):
        raise ValueError(f"must be a preset's name or a mapping (got {shortened(value)})")
    return value if isinstance(value, str) else {str(key): sortable(inside) for key, inside in value.items()}


AnyComposite = Annotated[str | dict[str, Any], pydantic.BeforeValidator(composite_of)]


class LrpAttribution(Settings):
    """Layer-wise relevance propagation."""

    method: Literal["lrp"]
    """Layer-wise relevance propagation."""
    composite: AnyComposite = "preset_a_flat"
    """Rules by layer: a preset's name, or a mapping (docs/lrp.md)."""


class GradientAttribution(Settings):
    """Attributions that take one gradient, or none, and have no settings of their own."""

    method: Literal["gradient", "input_times_gradient", "guided_backprop", "grad_cam", "random"]
    """Which of them (docs/attributions.md)."""


class PathAttribution(Settings):
    """Integrated gradients: the mean gradient on the way from a baseline to the image, times that way."""

    method: Literal["integrated_gradients"]
    """Integrated gradients."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Gradients on the way."""
    baseline: Baseline = "mean"
    """Where the way starts: an image in which every pixel is filled so."""


class NoiseAttribution(Settings):
    """SmoothGrad: the mean gradient of noisy copies of the image."""

    method: Literal["smoothgrad"]
    """SmoothGrad."""
    samples: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Noisy copies."""
    noise: Annotated[float, Field(gt=0, le=10)] = 0.15
    """Standard deviation of the noise, as a share of the image's range."""


class PatchAttribution(Settings):
    """Occlusion: what a logit loses when a square of pixels is filled."""

    method: Literal["occlusion"]
    """Occlusion."""
    patch: Annotated[int, Field(ge=1, le=1024)] = 16
    """Side of the square, pixels."""
    stride: Annotated[int, Field(ge=1, le=1024)] = 8
    """Pixels from one square to the next."""
    fill: Baseline = "mean"
    """What the pixels of the square become."""

    @model_validator(mode="after")
    def _leaves_no_gaps(self) -> "PatchAttribution":
        if self.stride > self.patch:
            raise ValueError("stride: must not exceed patch, or no square covers the pixels between them")
        return self


Attribution = LrpAttribution | GradientAttribution | PathAttribution | NoiseAttribution | PatchAttribution

METHODS = (
    "lrp",
    "gradient",
    "input_times_gradient",
    "integrated_gradients",
    "smoothgrad",
    "guided_backprop",
    "grad_cam",
    "occlusion",
    "random",
)


def _written_out(value: Any) -> Any:
    """A level as a mapping: a name alone is a method's, else that of a preset of LRP."""
    if isinstance(value, Settings):
        return value
    if isinstance(value, str):
        near = difflib.get_close_matches(value, METHODS, n=1)
        if value not in METHODS and near:
            raise ValueError(f"'{value}' is no method; did you mean '{near[0]}'?")
        return {"method": value} if value in METHODS else {"method": "lrp", "composite": value}
    if not isinstance(value, Mapping):
        raise ValueError(
            f"must be a method, a preset of LRP or a mapping with a method (got {shortened(value)})"
        )
    if value.get("method") not in METHODS:
        raise ValueError(
            f"method: must be one of {', '.join(METHODS)} (got {shortened(value.get('method'))})"
        )
    return value


AttributionLevel = Annotated[
    Annotated[Attribution, Field(discriminator="method")],
    pydantic.BeforeValidator(_written_out, json_schema_input_type=str | Attribution),
]
"""What a study file says of a level: a method, a preset of LRP, or a method with its settings."""


def checked_levels(levels: dict[str, Attribution]) -> dict[str, Attribution]:
    """The levels as they are; raises ValueError where the first is not LRP, and where two are the same."""
    first = next(iter(levels), None)
    if first is not None and not isinstance(levels[first], LrpAttribution):
        raise ValueError(
            f"the first level is what the study shows of relevance and must be LRP (got {first}); put one like "
            "{lrp: preset_a_flat} first"
        )
    seen: dict[str, str] = {}
    for name, level in levels.items():
        other = seen.setdefault(level.model_dump_json(), name)
        if other != name:
            raise ValueError(f"the levels {other} and {name} are the same; remove one of them")
    return levels
