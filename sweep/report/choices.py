"""How often models of different pretraining find the same other identity most similar (paper, section 3.4)."""

from collections.abc import Mapping

import pyarrow as pa
from matplotlib.figure import Figure

from sweep.report.style import styled

VERDICTS: Mapping[str, str] = {
    "different": "#44AA99",
    "the same": "#DDDDDD",
    "tied": "#DDCC77",
    "no choice": "#F7F7F7",
}
"""What can come of comparing the pretrainings' choices for one image, and its colour."""


def verdict(disagree: bool | None, ambiguous: bool) -> str:
    """Which of `VERDICTS` a row of the query `rank2` belongs to."""
    if disagree is None:
        return "no choice"
    return "tied" if ambiguous else "different" if disagree else "the same"


def agreement_counts(rank2: pa.Table) -> dict[str, dict[str, int]]:
    """Images by task (and further factors) and by verdict; `rank2` is the answer of the query of that name."""
    images = {}
    for row in rank2.to_pylist():
        group = ", ".join(filter(None, [row["task"], row["extra"]]))
        images[group, row["image_id"]] = verdict(row["disagree"], row["ambiguous"])
    counts: dict[str, dict[str, int]] = {}
    for (group, _), outcome in images.items():
        counts.setdefault(group, dict.fromkeys(VERDICTS, 0))[outcome] += 1
    return counts


def choice_agreement(rank2: pa.Table) -> Figure:
    """Bars of the shares of images whose rank-2 choices differ, agree, are tied or missing, one per task."""
    counts = agreement_counts(rank2)
    with styled():
        figure = Figure(figsize=(6.2, 0.9 + 0.45 * len(counts)), layout="constrained")
        panel = figure.subplots()
        for position, found in enumerate(counts.values()):
            start = 0
            for name, count in found.items():
                panel.barh(
                    position,
                    count,
                    left=start,
                    color=VERDICTS[name],
                    edgecolor="white",
                    label=name if not position else "_",
                )
                if count > 0.03 * sum(found.values()):
                    panel.text(start + count / 2, position, str(count), ha="center", va="center")
                start += count
        panel.set_yticks(range(len(counts)), list(counts))
        panel.invert_yaxis()
        panel.set_xlabel("images")
        figure.legend(loc="outside lower center", ncols=4)
    return figure
