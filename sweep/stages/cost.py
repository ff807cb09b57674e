"""What a study will cost, before anything runs: units, backbone passes, floating-point operations, bytes and time.

Pure arithmetic on a plan's numbers, so that it answers as well for a study ten thousand times as large. A pass is the
forward pass of one image through a backbone; relevance is counted in passes by its floating-point operations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

import numpy as np

from sweep.lrp import Network
from sweep.numerics.masking import removed_count
from sweep.plan import Plan
from sweep.stages.flops import pass_flops, relevance_passes
from sweep.stages.outlines import Outline, outlines
from sweep.study import SOURCELESS, Attribution, LrpAttribution
from sweep.study.attribution import NoiseAttribution, PatchAttribution, PathAttribution

PEAK_FLOPS: Mapping[str, float] = {
    "t4": 8.1e12,
    "v100": 15.7e12,
    "a10g": 31.2e12,
    "l4": 30.3e12,
    "a100": 19.5e12,
    "h100": 67e12,
}
"""Floating-point operations per second in full float32, as the makers give them (sweep.actors.devices turns TF32 off)."""
SHARE_OF_PEAK = 0.4
"""What of its peak a GPU is assumed to reach in convolutions; an assumption, not a measurement."""
LINEAR_FLOPS = 1.7e4
"""What the fill `linear` takes per pixel of a grey image, as floating-point operations of a pass that take as long
(measured beside VGG-16 at 96 px: 2.7 % of a pass)."""
REFERENCE_PASSES = 5.0
"""Passes per map where iNNvestigate computes it: forward, two products and two transposes (docs/lrp.md)."""
FILE_BYTES = 2_500
"""What a Parquet file takes besides its rows."""
ROW_BYTES: Mapping[str, float] = {
    "images": 4,
    "epochs": 28,
    "models": 1_500,
    "predictions": 5,
    "similarity": 10,
    "masked": 6,
    "cells": 8,
}
"""Compressed bytes per row, as measured on studies/demo.yaml; features and maps are counted by their values."""
FEATURE_BYTES, MAP_BYTES = 2.6, 3.2
"""Compressed bytes per value, as measured there."""


@dataclass(frozen=True)
class Size:
    """The numbers of a study that its cost follows from."""

    models: int
    conditions: int
    """Cells of the factorial, the same up to the seed."""
    images: int
    mapped: int
    """Images with maps and masks."""
    epochs: float
    """Mean over the models."""
    train_share: float
    """Share of the images that readouts are trained on."""
    classes: float
    """Mean over the models."""
    ranks: int
    levels: int
    partial_levels: int
    """Levels at which some pixels are removed and some left."""
    controls: int
    """Controls of each source, draws counted."""
    sourceless: int
    """Controls that depend on no source, draws counted."""
    randomized: int
    """Draws of the control `randomized`, which takes maps of its own."""
    fills: int
    linear: bool
    """Whether one of the fills is `linear`, which is computed for every mask."""
    cells: bool
    """Whether only cells of masked predictions are kept."""
    features: tuple[int, ...]
    """Features of each backbone."""
    pass_flops: tuple[float, ...]
    """Floating-point operations of one pass through each backbone."""
    passes_per_image: float
    """What relevance takes per backbone and image, whatever the number of models, in passes."""
    passes_per_map: float
    """What it takes per map besides."""
    pixels: int
    """Pixels of a network's input."""
    attributions: tuple[tuple[float, float], ...] = ()
    """The same two of each further level of the factor attribution."""
    mirror: bool = False
    """Whether the images to train on are also seen mirrored."""
    plain_share: float = 1.0
    """Share of the models whose head is a readout and no deeper."""
    head_flops: float = 0.0
    """Floating-point operations of a deeper head on one image, and what relevance takes in it; means over all models."""
    head_relevance_flops: float = 0.0
    head_bytes: float = 0.0
    """Bytes of a deeper head's weights, mean over all models."""

    @property
    def backbones(self) -> int:
        """How many backbones there are."""
        return len(self.pass_flops)

    @property
    def masks(self) -> int:
        """Everything that makes masks."""
        further = len(self.attributions) * (1 + self.controls - self.randomized)
        return self.models * (1 + self.controls + further) + self.sourceless

    @property
    def mean_features(self) -> float:
        """Features of a backbone, on average."""
        return sum(self.features) / self.backbones

    @property
    def mean_flops(self) -> float:
        """Floating-point operations of a pass, on average over the backbones."""
        return sum(self.pass_flops) / self.backbones

    @property
    def readout_flops(self) -> float:
        """Floating-point operations of a readout on one image, mean over all models."""
        return 2 * self.mean_features * self.classes * self.plain_share


@dataclass(frozen=True)
class StageCost:
    """What one stage takes."""

    stage: str
    units: int
    passes: float = 0.0
    """In forward passes of one image through one backbone."""
    pass_flops: float = 0.0
    """Floating-point operations of the passes."""
    other_flops: float = 0.0
    """Those of readouts and correlations."""
    bytes: float = 0.0
    """Written, compressed."""


@dataclass(frozen=True)
class Speed:
    """How fast a cluster is, all its workers together."""

    pass_flops: float
    """Floating-point operations per second in a backbone's passes."""
    other_flops: float
    """The same in training readouts."""
    unit_seconds: float
    """Time that a unit takes besides: handing out, writing, renaming."""
    start_seconds: float
    """Until a worker is ready, three times per study: for features, for finetuning, and for what follows."""
    workers: int
    basis: str
    """What the figures rest on, in words."""

    def seconds(self, cost: StageCost) -> float:
        """Time that a stage takes on this cluster."""
        return (
            cost.pass_flops / self.pass_flops
            + cost.other_flops / self.other_flops
            + cost.units * self.unit_seconds / self.workers
        )


def size_of(plan: Plan, loaded: Mapping[str, Network]) -> Size:
    """The numbers of a planned study; `loaded` are its backbones."""
    study = plan.study
    networks = [loaded[name] for name in plan.backbones]
    pixels = study.dataset.input_size**2
    counts = {removed_count(percent, pixels) for percent in study.masking.percents}
    flops = [pass_flops(network) for network in networks]
    heads = outlines(plan, loaded)
    first = [next(head for head in heads if head.trunk is network) for network in networks]
    deep = [(len(head.models) / len(plan.models), head) for head in heads if head.is_deep]

    def of_lrp(composite: str | dict[str, Any]) -> tuple[float, float]:
        if study.relevance.engine == "innvestigate":
            return 0.0, REFERENCE_PASSES
        given = composite, study.relevance.bias
        passes = [relevance_passes(one.trunk, one.rules(*given)[0]) for one in first]
        # By the mean pass, which a wide backbone has more of.
        per_image, per_map = np.average(passes, axis=0, weights=flops).tolist()
        return per_image, per_map

    def of_head(one: Outline) -> float:
        rules = one.rules(study.relevance.composite, study.relevance.bias)[1]
        return pass_flops(one.head) * sum(relevance_passes(one.head, rules))

    def of(level: Attribution) -> tuple[float, float]:
        if isinstance(level, LrpAttribution):
            return of_lrp(level.composite)
        return attribution_passes(level, study.dataset.input_size)

    per_image, per_map = of_lrp(study.relevance.composite)
    controls = [name for name, _ in study.masking.drawn_controls]
    sourceless = sum(name in SOURCELESS for name in controls)
    return Size(
        models=len(plan.models),
        conditions=len({model.cell.condition for model in plan.models}),
        images=len(plan.images.ids),
        mapped=len(plan.selected),
        epochs=sum(model.cell.finetune.epochs for model in plan.models) / len(plan.models),
        train_share=plan.images.table["split"].to_pylist().count("train") / len(plan.images.ids),
        classes=sum(len(model.classes) for model in plan.models) / len(plan.models),
        ranks=study.analysis.ranks,
        levels=len(study.masking.percents),
        partial_levels=len(counts - {0, pixels}),
        controls=len(controls) - sourceless,
        sourceless=sourceless,
        randomized=controls.count("randomized"),
        fills=len(study.masking.fills),
        linear="linear" in study.masking.fills,
        cells=study.masking.granularity == "cell",
        features=tuple(prod(network.output_shape) for network in networks),
        pass_flops=tuple(flops),
        passes_per_image=per_image,
        passes_per_map=per_map,
        pixels=pixels,
        attributions=tuple(of(level) for level in list(study.factors.attribution.values())[1:]),
        mirror=any(model.cell.finetune.mirror for model in plan.models),
        plain_share=1 - sum(share for share, _ in deep),
        head_flops=sum(share * pass_flops(head.head) for share, head in deep),
        head_relevance_flops=sum(share * of_head(head) for share, head in deep),
        head_bytes=sum(share * head.head_bytes for share, head in deep),
    )


def scaled(size: Size, models: int | None, images: int | None) -> Size:
    """The same study with more models (as further seeds) or images; those with maps keep their share."""
    if models is not None:
        size = replace(size, models=models)
    if images is not None:
        size = replace(size, images=images, mapped=max(1, round(size.mapped * images / size.images)))
    return size


def gpu_speed(kind: str, count: int, here: Speed) -> Speed:
    """What `count` GPUs of a kind would do; everything but arithmetic is taken from the cluster `here`."""
    rate = PEAK_FLOPS[kind] * SHARE_OF_PEAK * count
    basis = f"{count} x {kind} at {SHARE_OF_PEAK:.0%} of {PEAK_FLOPS[kind] / 1e12:g} TFLOP/s (float32), an assumption"
    return replace(here, pass_flops=rate, other_flops=rate / 4, workers=2 * count, basis=basis)


def attribution_passes(level: Attribution, side: int) -> tuple[float, float]:
    """Passes that an attribution other than LRP takes per image of `side` pixels, and per map besides.

    A gradient needs the forward pass once for all models, and one backward pass for each.
    """
    if isinstance(level, PathAttribution):
        return level.steps, level.steps
    if isinstance(level, NoiseAttribution):
        return level.samples, level.samples
    if isinstance(level, PatchAttribution):
        return 1 + (ceil(max(side - level.patch, 0) / level.stride) + 1) ** 2, 0
    return 1, level.method not in ("grad_cam", "random")
