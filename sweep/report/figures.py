"""Figures, drawn from query results: one function each, the same colour for the same thing everywhere."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pyarrow as pa
from matplotlib.figure import Figure

RELATION_COLOURS: Mapping[str, str] = {
    "same_init": "#D55E00",
    "same_task_same_pretraining": "#E69F00",
    "other_task": "#CC79A7",
    "other_pretraining": "#56B4E9",
    "other_both": "#0072B2",
    "random": "#777777",
}
"""The palette of Okabe & Ito, told apart by colour-blind readers."""
_FURTHER = ("#009E73", "#000000", "#F0E442")
"""For bins that further factors make."""


def accuracy_curves(curves: pa.Table) -> Figure:
    """Accuracy against percent masked, a panel per destination condition, a line per bin (paper, Figs. 5 and 6).

    `curves` is the answer of the query `accuracy_curves`; bands are one standard error over destinations, and
    levels off the logarithmic axis (0 and 100 %) are drawn at its ends.
    """
    rows = curves.to_pylist()
    conditions = sorted({row["condition"] for row in rows})
    relations = _ordered({row["relation"] for row in rows})
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "relevance-sweep"}):
        figure = Figure(
            figsize=(4.2 * min(len(conditions), 2), 3.4 * -(-len(conditions) // 2)), layout="constrained"
        )
        panels = figure.subplots(
            -(-len(conditions) // 2), min(len(conditions), 2), squeeze=False, sharey=True
        )
        for panel, condition in zip(panels.flat, conditions, strict=False):
            own = [row for row in rows if row["condition"] == condition]
            _panel(panel, own, relations)
            panel.set_title(condition)
        for panel in list(panels.flat)[len(conditions) :]:
            panel.set_axis_off()
        for row in panels:
            row[0].set_ylabel("accuracy")
        for panel in panels[-1]:
            panel.set_xlabel("pixels removed, percent")
        figure.legend(
            *panels.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
        )
    return figure


def _panel(panel: Any, rows: Sequence[Mapping[str, Any]], relations: Sequence[str]) -> None:
    inside = sorted({row["percent"] for row in rows if 0 < row["percent"] < 100})
    place = (
        {0.0: inside[0] / 10**0.5, 100.0: 100.0} | {percent: percent for percent in inside} if inside else {}
    )
    for relation in relations:
        own = sorted((row for row in rows if row["relation"] == relation), key=lambda row: row["percent"])
        if not own or not place:
            continue
        x = [place[row["percent"]] for row in own]
        y = [row["accuracy"] for row in own]
        spread = [row["sem"] or 0 for row in own]
        colour = colour_of(relation, relations)
        dashes = "--" if relation in ("random", "same_task_same_pretraining") else "-"
        panel.plot(x, y, dashes, color=colour, label=relation, marker="o", markersize=3, linewidth=1.4)
        low, high = (
            [a - b for a, b in zip(y, spread, strict=True)],
            [a + b for a, b in zip(y, spread, strict=True)],
        )
        panel.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    panel.axhline(rows[0]["chance"], color="black", linestyle=":", linewidth=0.8)
    panel.set_xscale("log")
    ticks = sorted({place[row["percent"]] for row in rows}) if place else []
    names = {shown: f"{percent:g}" for percent, shown in place.items()}
    panel.set_xticks(ticks, [names[tick] for tick in ticks])
    panel.minorticks_off()
    panel.set_ylim(0, 1.03)
    panel.spines[["top", "right"]].set_visible(False)


def colour_of(relation: str, relations: Sequence[str]) -> str:
    """Colour of a bin; bins beyond the paper's get further colours in the order of `relations`."""
    further = [name for name in relations if name not in RELATION_COLOURS]
    return RELATION_COLOURS.get(relation) or _FURTHER[further.index(relation) % len(_FURTHER)]


def _ordered(relations: set[str]) -> list[str]:
    known = [name for name in RELATION_COLOURS if name in relations]
    return known + sorted(relations - set(known))
