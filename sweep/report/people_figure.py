"""The figure of what people prefer (paper, Fig. 7): faces, every target by its preference, and every model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep.arrays import Array
from sweep.report.pictures import montage
from sweep.report.style import styled

Row = Mapping[str, Any]

COLOURS, MARKERS, UNDECIDED = ("#882255", "#117733"), ("o", "D"), "#8C8C8C"
"""Of the two conditions, and of targets without a clear preference."""
EXAMPLES = 3
"""Targets that are shown for each condition."""
MODELS = 40
"""Models that a panel has room for."""


@dataclass(frozen=True)
class Example:
    """A target with its two options."""

    faces: Array
    """RGB uint8 (3, height, width, 3): the target, option a, option b."""
    preference: float
    """For option a."""


def people_figure(
    overall: Row,
    targets: Sequence[Row],
    models: Sequence[Row],
    examples: tuple[Sequence[Example], Sequence[Example]],
    note: str = "",
) -> Figure:
    """Examples of each condition (above), all targets in order of preference and all models (below).

    `overall` is the row of the crossed test in `human_preference`, `targets` and `models` are rows of `human_targets` and
    `human_models`; `examples` are those that speak most for each of the two conditions; `note` stands above.
    """
    names = overall["condition_a"], overall["condition_b"]
    with styled():
        figure = Figure(figsize=(9.2, 6.6), layout="constrained")
        if note:
            figure.suptitle(note)
        panels = figure.subplots(2, 2, gridspec_kw={"width_ratios": [1.3, 1], "height_ratios": [1, 1]})
        for panel, own, name, colour in zip(panels[0], examples, names, COLOURS, strict=True):
            _faces(panel, own, names)
            panel.set_title(f"people agree most with {name}", color=colour)
        _ranked(panels[1, 0], overall, targets)
        _models(panels[1, 1], models[:MODELS], names)
    return figure


def _faces(panel: Axes, examples: Sequence[Example], names: tuple[str, str]) -> None:
    panel.spines[:].set_visible(False)
    if not examples:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.text(0.5, 0.5, "no such target", ha="center", va="center", transform=panel.transAxes)
        return
    tiles = np.stack([example.faces for example in examples], axis=1)
    height, width = tiles.shape[2:4]
    gap = max(1, width // 16)
    panel.imshow(montage(tiles, gap))
    panel.set_yticks([(height + gap) * row + height / 2 for row in range(3)], ["shown", *names])
    shares = [f"{example.preference:.0%} : {1 - example.preference:.0%}" for example in examples]
    panel.set_xticks([(width + gap) * column + width / 2 for column in range(len(examples))], shares)
    panel.tick_params(length=0)
    for label, colour in zip(panel.get_yticklabels()[1:], COLOURS, strict=True):
        label.set_color(colour)


def _ranked(panel: Axes, overall: Row, targets: Sequence[Row]) -> None:
    """Targets from left to right by preference, each with its interval; the band is the crossed test's."""
    names = overall["condition_a"], overall["condition_b"]
    if overall["low"] is not None:
        panel.axhspan(
            100 * overall["low"], 100 * overall["high"], color="#DDDDDD", label="mean, 95 % interval"
        )
    panel.axhline(50, color="black", linestyle=":", linewidth=0.8)
    groups = {
        name: (colour, marker, name) for name, colour, marker in zip(names, COLOURS, MARKERS, strict=True)
    }
    groups[""] = (UNDECIDED, "x", "no clear preference")
    for preferred, (colour, marker, label) in groups.items():
        own = [(place, row) for place, row in enumerate(targets, 1) if row["preferred"] == preferred]
        if not own:
            continue
        centre = np.array([100 * row["preference"] for _, row in own])
        limits = np.array([[100 * row["low"], 100 * row["high"]] for _, row in own]).T
        panel.errorbar(
            [place for place, _ in own],
            centre,
            np.maximum(np.abs(limits - centre), 0),
            fmt=marker,
            color=colour,
            markersize=3.5,
            elinewidth=0.6,
            label=label,
        )
    panel.set_ylim(0, 100)
    panel.set_xlabel("targets, by preference")
    panel.set_ylabel(f"answers for {names[0]}, %")
    panel.legend(loc="upper right", fontsize=7)


def _models(panel: Axes, models: Sequence[Row], names: tuple[str, str]) -> None:
    """Every model's agreement with people."""
    panel.axvline(50, color="black", linestyle=":", linewidth=0.8)
    for place, row in enumerate(models):
        position = names.index(row["condition"]) if row["condition"] in names else None
        colour = UNDECIDED if position is None else COLOURS[position]
        centre = 100 * row["agreement"]
        error = None if row["low"] is None else [[centre - 100 * row["low"]], [100 * row["high"] - centre]]
        panel.errorbar(
            [centre],
            [place],
            xerr=error,
            fmt="x" if position is None else MARKERS[position],
            color=colour,
            markersize=4,
            elinewidth=0.8,
        )
    panel.set_yticks(range(len(models)), [row["model_id"] for row in models], fontsize=7)
    panel.set_xlim(0, 100)
    panel.invert_yaxis()
    panel.set_xlabel("answers that fall on the model's own choice, %")
