"""Every model against every other: the design of pairs, the areas, and how alike their maps are."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sweep.arrays import Array
from sweep.report.style import SEQUENTIAL, Styles, styled

Groups = Mapping[str, Sequence[str]]
"""Models by condition, in the order they are drawn."""

RANDOM = "random"
"""Label of the rows whose masks are random."""


def model_pairs(auc: pa.Table, groups: Groups, styles: Styles) -> Figure:
    """The design: each source (row) and destination (column), coloured by its bin (paper, Fig. 3).

    `auc` is the answer of the query `auc`; its columns source_id, destination_id and relation are read.
    """
    names = list(styles.relations)
    rows = _with_random(auc, groups)
    values = {
        (row["source_id"], row["destination_id"]): float(names.index(row["relation"]))
        for row in auc.to_pylist()
    }
    with styled():
        figure, panel = _square()
        colours = ListedColormap([style.colour for style in styles.relations.values()])
        panel.imshow(_matrix(values, rows, groups), cmap=colours, vmin=-0.5, vmax=len(names) - 0.5)
        _label(panel, rows, groups)
        _sources_and_destinations(panel)
        figure.legend(
            handles=[Patch(color=style.colour, label=style.name) for style in styles.relations.values()],
            loc="outside lower center",
            ncols=2,
        )
    return figure


def auc_matrix(auc: pa.Table, groups: Groups) -> Figure:
    """The area under accuracy over log percent of each destination (column) under each source's masks (row).

    `auc` is the answer of the query `auc`; pairs without an area stay white.
    """
    rows = _with_random(auc, groups)
    values = {
        (row["source_id"], row["destination_id"]): row["auc_log"]
        for row in auc.to_pylist()
        if row["auc_log"] is not None
    }
    with styled():
        figure, panel = _square()
        image = panel.imshow(_matrix(values, rows, groups), cmap=SEQUENTIAL)
        _label(panel, rows, groups)
        _sources_and_destinations(panel)
        figure.colorbar(image, ax=panel, label="AUC (1 = never hurt)", shrink=0.8)
    return figure


def transfer_matrix(pairs: Sequence[Mapping[str, Any]], groups: Groups) -> Figure:
    """Transfer index of each destination (column) under each source's masks (row), on a scale from 0 to 1.

    `pairs` has source_id, destination_id and transfer. Indices beyond the scale take the colour of its ends; pairs without
    one stay white.
    """
    values = {(row["source_id"], row["destination_id"]): row["transfer"] for row in pairs}
    with styled():
        figure, panel = _square()
        image = panel.imshow(_matrix(values, groups, groups), cmap=SEQUENTIAL, vmin=0, vmax=1)
        _label(panel, groups, groups)
        _sources_and_destinations(panel)
        figure.colorbar(
            image, ax=panel, label="transfer index (1 = all, 0 = as the control)", shrink=0.8, extend="both"
        )
    return figure


def similarity_matrix(pairs: pa.Table, groups: Groups) -> Figure:
    """Mean Pearson correlation of two models' maps of the same images; the diagonal is left white.

    `pairs` has the columns model_a, model_b (unordered pairs) and pearson (null where a map is constant).
    """
    values = {}
    for row in pairs.to_pylist():
        if row["pearson"] is not None:
            values[row["model_a"], row["model_b"]] = values[row["model_b"], row["model_a"]] = row["pearson"]
    with styled():
        figure, panel = _square()
        image = panel.imshow(_matrix(values, groups, groups), cmap=SEQUENTIAL, vmax=1)
        _label(panel, groups, groups)
        figure.colorbar(image, ax=panel, label="Pearson's r of relevance maps", shrink=0.8)
    return figure


def _square() -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.2, 5.6), layout="constrained")
    return figure, figure.subplots()


def _with_random(auc: pa.Table, groups: Groups) -> Groups:
    random = sorted(
        {
            row["source_id"]
            for row in auc.select(["source_id", "relation"]).to_pylist()
            if row["relation"] == RANDOM
        }
    )
    return {**groups, RANDOM: random} if random else groups


def _matrix(values: Mapping[tuple[str, str], float], rows: Groups, columns: Groups) -> Array:
    """Values by row and column, NaN where there is none."""
    across = [name for group in columns.values() for name in group]
    down = [name for group in rows.values() for name in group]
    return np.array([[values.get((a, b), np.nan) for b in across] for a in down])


def _label(panel: Any, rows: Groups, columns: Groups) -> None:
    """Name the conditions at the axes and part them by lines."""
    for axis, groups, line in ((panel.yaxis, rows, panel.axhline), (panel.xaxis, columns, panel.axvline)):
        ends = np.cumsum([len(group) for group in groups.values()])
        starts = ends - [len(group) for group in groups.values()]
        axis.set_ticks((starts + ends - 1) / 2, list(groups))
        for end in ends[:-1]:
            line(end - 0.5, color="white", linewidth=1.5)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    for label in panel.get_xticklabels():
        label.set(rotation=30, ha="right", rotation_mode="anchor")
    size = mpl.rcParams["font.size"] if len(rows) <= 12 else 6
    panel.tick_params(labelsize=size)


def _sources_and_destinations(panel: Any) -> None:
    panel.set_ylabel("source: gives the mask")
    panel.set_xlabel("destination: sees the masked image")
