"""The figure that compares attributions: how much more each one's masks hurt than their control."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sweep.report.answers import Answers
from sweep.report.picture_exhibits import Described, Impossible
from sweep.report.style import styled

Row = Mapping[str, Any]

TITLE = "Which attribution finds what the network uses"
WHOLE = "all"
"""The condition that stands for all of them."""
MARKERS = "sD^vP*Xd<>"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#882255")


def attribution_exhibit(answers: Answers) -> Described:
    """Every attribution's specific loss, the largest first, over all destinations and by condition."""
    chosen = answers.answer_fill, answers.answer_control
    rows = [row for row in answers.attributions if (row["fill"], row["control"]) == chosen]
    whole = [row for row in rows if row["condition"] == WHOLE and row["loss"] is not None]
    if not whole:
        raise Impossible("No figure: the study has no control, or no attribution has every level and image.")
    told = "; ".join(f"{row['attribution']} {row['loss']:.3f}{_interval(row)}" for row in whole)
    fill, control = chosen
    return (
        attribution_losses(whole, [row for row in rows if row["condition"] != WHOLE]),
        f"Specific loss of a model's own masks by attribution: area under accuracy under the control {control} less that "
        f"under the mask, over log10 of the percent removed (fill {fill}). Large points are means over all models and "
        "images with 95 % intervals; small ones are the conditions. At 0 an attribution finds no more than its control.",
        f"Points with error bars, the largest loss first: {told}.",
    )


def attribution_losses(whole: Sequence[Row], conditions: Sequence[Row]) -> Figure:
    """A line per row of `whole`, in their order, and a small point on it for each row of `conditions`."""
    places = {row["attribution"]: place for place, row in enumerate(whole)}
    names = sorted({row["condition"] for row in conditions})
    with styled():
        figure = Figure(figsize=(7.2, 1.6 + 0.34 * len(whole)), layout="constrained")
        panel = figure.subplots()
        panel.axvline(0, color="black", linestyle=":", linewidth=0.8)
        for index, name in enumerate(names):
            own = [row for row in conditions if row["condition"] == name and row["attribution"] in places]
            offset = 0.18 + 0.22 * (index / max(len(names) - 1, 1))
            panel.plot(
                [row["loss"] for row in own],
                [places[row["attribution"]] + offset for row in own],
                linestyle="none",
                marker=MARKERS[index % len(MARKERS)],
                color=COLOURS[index % len(COLOURS)],
                markersize=3.5,
                label=f" {name}" if name.startswith("_") else name,
            )
        centre = np.array([row["loss"] for row in whole], float)
        limits = np.array([[row["low"], row["high"]] for row in whole], float).T
        panel.errorbar(
            centre,
            range(len(whole)),
            xerr=np.nan_to_num(np.abs(limits - centre)),
            fmt="o",
            color="black",
            markersize=5,
            elinewidth=1,
            label="all, 95 % interval",
        )
        panel.set_yticks(range(len(whole)), [row["attribution"] for row in whole])
        panel.set_ylim(len(whole) - 0.4, -0.5)
        panel.set_xlabel("specific loss: how much more own masks hurt than the control")
        panel.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7)
    return figure


def _interval(row: Row) -> str:
    return "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
