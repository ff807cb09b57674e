"""Accuracy against the share of pixels removed, with the area under each curve beside it (paper, Figs. 5 and 6)."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure

from sweep.report.style import Style, Styles, half_width, styled

Row = Mapping[str, Any]

OWN, OTHER = "same_init", "same_task_same_pretraining"
NO_CONTROL = "none"
"""The control of what is a mask by the source's own map of the image."""
CONTROL_STYLES: Mapping[str, Style] = {
    NO_CONTROL: Style("the model's own map", "#D55E00", "o", "-"),
    "other_image": Style("its map of another image", "#332288", "D", "-"),
    "mean_map": Style("its mean map of other images", "#117733", "^", "-"),
    "randomized": Style("its map with permuted weights", "#CC79A7", "P", "-"),
    "reversed": Style("its own map, last pixels first", "#88CCEE", "v", "--"),
    "blocks": Style("random blocks", "#999933", "s", "--"),
    "scattered": Style("random pixels", "#6B6B6B", "x", "--"),
}
"""Own masks and every control, from the one that has most in common with them."""


@dataclass(frozen=True)
class Line:
    """One curve and the areas of the models it is a mean over."""

    style: Style
    points: Sequence[Row]
    """Rows of the query `accuracy_curves`, by rising percent."""
    areas: Sequence[float]
    """`auc_log` of each destination model."""


def initialisation_curves(curves: pa.Table, bins: pa.Table, styles: Styles) -> Figure:
    """Masks of the model itself against masks of another initialisation, a panel per task (paper, Fig. 5).

    `curves` and `bins` are the answers of the queries `accuracy_curves` and `bins`. A line per pretraining,
    dashed where the mask came from another initialisation. Bands and bars: see `_draw`.
    """
    panels: dict[str, list[Line]] = {}
    for line in _lines(curves, bins, styles, [OWN, OTHER]):
        row = line.points[0]
        base = styles.pretrainings[row["pretraining"]]
        dashes = "-" if row["relation"] == OWN else "--"
        style = Style(f"{base.name}, {line.style.name}", base.colour, base.marker, dashes)
        title = ", ".join(filter(None, [row["task"], row["extra"]]))
        panels.setdefault(title, []).append(replace(line, style=style))
    return _draw(panels)


def source_curves(curves: pa.Table, bins: pa.Table, styles: Styles) -> Figure:
    """A panel per kind of destination model, a line per bin of mask sources (paper, Fig. 6).

    `curves` and `bins` are the answers of the queries `accuracy_curves` and `bins`. The bin of other
    initialisations is the subject of `initialisation_curves` and left out here. Bands and bars: see `_draw`.
    """
    panels: dict[str, list[Line]] = {}
    for line in _lines(curves, bins, styles, [name for name in styles.relations if name != OTHER]):
        panels.setdefault(line.points[0]["condition"], []).append(line)
    return _draw(panels)


def control_curves(curves: pa.Table, losses: pa.Table) -> Figure:
    """A panel per kind of model, a line for its own masks and one per control.

    `curves` and `losses` are the answers of the queries `control_curves` and `specific_loss`, of one fill. Bands and
    bars: see `_draw`.
    """
    points: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(curves.to_pylist(), key=lambda row: row["percent"]):
        points.setdefault((row["condition"], row["control"]), []).append(row)
    areas: dict[tuple[str, str], dict[str, float]] = {}
    for row in losses.to_pylist():
        if row["relation"] == OWN and row["loss"] is not None:
            model, condition = row["destination_id"], row["condition"]
            areas.setdefault((condition, NO_CONTROL), {})[model] = row["auc_mask"]
            areas.setdefault((condition, row["control"]), {})[model] = row["auc_control"]
    panels: dict[str, list[Line]] = {}
    for condition, control in sorted(
        points, key=lambda place: (place[0], list(CONTROL_STYLES).index(place[1]))
    ):
        own = list(areas.get((condition, control), {}).values())
        line = Line(CONTROL_STYLES[control], points[condition, control], own)
        panels.setdefault(condition, []).append(line)
    return _draw(panels)


def _lines(curves: pa.Table, bins: pa.Table, styles: Styles, relations: Sequence[str]) -> list[Line]:
    """A line per condition and bin, by condition and then in the order of `relations`."""
    points: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(curves.to_pylist(), key=lambda row: row["percent"]):
        points.setdefault((row["condition"], row["relation"]), []).append(row)
    areas: dict[tuple[str, str], list[float]] = {}
    for row in bins.to_pylist():
        if row["auc_log"] is not None:
            areas.setdefault((row["condition"], row["relation"]), []).append(row["auc_log"])
    wanted = sorted(
        (place for place in points if place[1] in relations),
        key=lambda place: (place[0], relations.index(place[1])),
    )
    return [Line(styles.relations[place[1]], points[place], areas.get(place, [])) for place in wanted]


def _draw(panels: Mapping[str, Sequence[Line]]) -> Figure:
    """Lines with 95 % bands over destination models; at the right, mean areas with 95 % bars; chance dotted.

    Levels off the logarithmic axis (0 and 100 %) are drawn at its ends. One destination alone has no band.
    """
    columns = min(len(panels), 2 if len(panels) <= 4 else 3)
    rows = -(-len(panels) // columns)
    with styled():
        figure = Figure(figsize=(4.9 * columns, 3.2 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        handles: dict[str, Any] = {}
        for panel, (title, lines) in zip(axes.flat, panels.items(), strict=False):
            panel.set_title(title, loc="left")
            handles |= _curves(panel, lines)
            _bars(panel.inset_axes((1.03, 0.0, 0.055 * len(lines) + 0.03, 1.0)), lines)
        for panel in list(axes.flat)[len(panels) :]:
            panel.set_axis_off()
        for row in axes:
            row[0].set_ylabel("accuracy")
        for panel in list(axes.flat)[max(0, len(panels) - columns) : len(panels)]:
            panel.set_xlabel("pixels removed, percent")
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=_columns(len(handles))
        )
    return figure


def _columns(entries: int) -> int:
    """Columns of a legend: rows as equally long as can be, three entries at most."""
    return min(3, entries) if entries != 4 else 2


def _curves(panel: Any, lines: Sequence[Line]) -> dict[str, Any]:
    levels = sorted({row["percent"] for line in lines for row in line.points})
    place = _places(levels)
    handles = {}
    for line in lines:
        style, rows = line.style, line.points
        x = [place[row["percent"]] for row in rows]
        y = [row["accuracy"] for row in rows]
        spread = [half_width(row["sem"], row["n_destinations"]) for row in rows]
        handles[style.name] = panel.plot(
            x,
            y,
            style.dashes,
            color=style.colour,
            label=style.name,
            marker=style.marker,
            markersize=3.5,
            linewidth=1.4,
        )[0]
        low = [value - half for value, half in zip(y, spread, strict=True)]
        high = [value + half for value, half in zip(y, spread, strict=True)]
        panel.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)
    panel.axhline(lines[0].points[0]["chance"], color="black", linestyle=":", linewidth=0.8)
    panel.set_xscale("log")
    panel.set_xticks([place[level] for level in levels], [f"{level:g}" for level in levels])
    panel.minorticks_off()
    panel.set_ylim(0, 1.03)
    return handles


def _places(levels: Sequence[float]) -> dict[float, float]:
    """Where each level stands on the logarithmic axis: 0 half a decade before the first that fits on it."""
    inside = [level for level in levels if 0 < level < 100]
    first = inside[0] if inside else 1.0
    return {level: level if level > 0 else first / 10**0.5 for level in levels}


def _bars(panel: Any, lines: Sequence[Line]) -> None:
    for position, line in enumerate(lines):
        style, areas = line.style, line.areas
        if areas:
            sem = statistics.stdev(areas) / len(areas) ** 0.5 if len(areas) > 1 else None
            panel.bar(
                position,
                statistics.fmean(areas),
                0.8,
                yerr=half_width(sem, len(areas)) or None,
                ecolor="black",
                color=style.colour,
                edgecolor="white",
                hatch="///" if style.dashes == "--" else None,
                linewidth=0,
                error_kw={"linewidth": 0.9},
            )
    panel.set_title("AUC", fontsize=8)
    panel.set_xticks([])
    panel.set_xlim(-0.6, len(lines) - 0.4)
    panel.set_ylim(0, 1.03)
    panel.tick_params(labelleft=False)
