"""Whether masks measure what a study asks, and what it answers then: sentences and tables of the transfer index."""

from collections.abc import Mapping, Sequence
from typing import Any

from sweep.report.answers import LOG, PAPER_FILL, Answers
from sweep.report.curves import OWN
from sweep.report.page_tables import Table, TableCell, number
from sweep.report.sentences import ALPHA, PAIRS, Finding, more, p_value
from sweep.report.style import Styles

Row = Mapping[str, Any]

AGAINST = {
    "other_image": "the source's map of another image",
    "mean_map": "the source's mean map of the other images",
    "randomized": "the map of the same network with its weights permuted",
    "reversed": "its own least relevant pixels",
    "blocks": "random blocks",
    "scattered": "random pixels",
}
"""What a control is called in a sentence."""


def verdict(answers: Answers) -> str:
    """The first thing a report says: whether the masks pass their control."""
    control = answers.answer_control
    if control is None:
        return (
            "Not validated: the study has no control, so nothing tells whether masks find what a model looks at; "
            "set masking.controls."
        )
    own = _own(answers.transfer, answers.answer_fill, control)
    passed = [row for row in own if row["validated"]]
    failed = [row for row in own if not row["validated"]]
    kinds = f"{len(passed)} of {len(own)} kinds of model"
    told = f"a model's own masks hurt it more than {AGAINST[control]} (fill {answers.answer_fill})"
    if not own:
        return "Not validated: no mask by a model itself is there."
    if not passed:
        return (
            f"Not validated in any of {len(own)} kinds of model: it is not shown that {told}. "
            f"How much a mask hurts then does not tell what a model looks at.{_others(answers, control)}"
        )
    named = [row["condition"] for row in failed]
    rest = f" Not in {', '.join([*named[:PAIRS], *more(named)])}: there a mask does not tell what a model looks at."
    return f"Validated in {kinds}: {told}.{rest if failed else ''}{_others(answers, control)}"


def _others(answers: Answers, control: str) -> str:
    """In how many kinds the masks pass the same control under the study's other fills."""
    told = []
    for fill in answers.plan.study.masking.fills:
        if fill != answers.answer_fill:
            own = _own(answers.transfer, fill, control)
            named = f"the paper's fill {fill}" if fill == PAPER_FILL else f"the fill {fill}"
            told.append(f"{sum(row['validated'] for row in own)} of {len(own)} under {named}")
    return f" By comparison: {', '.join(told)}." if told else ""


def answer(answers: Answers) -> str:
    """The study's answer in a sentence: how much of a model's own evidence each source of masks finds."""
    rows = [row for row in answers.answered if row["relation"] != OWN and row["transfer"] is not None]
    spans = []
    for relation, style in answers.styles.relations.items():
        values = sorted(row["transfer"] for row in rows if row["relation"] == relation)
        if values:
            low, high = f"{values[0]:.2f}", f"{values[-1]:.2f}"
            spans.append(f"{style.name} {low if low == high else f'{low} to {high}'}")
    if not spans:
        return ""
    return (
        "How much of what a model's own masks find the masks of other models find as well (transfer index: 1 all, "
        f"0 no more than the control), over kinds of model: {'; '.join(spans)}."
    )


def transfer_findings(answers: Answers) -> list[Finding]:
    """Per kind of destination model, the transfer index of every bin with its interval."""
    found = []
    rows = answers.answered
    for condition in dict.fromkeys(row["condition"] for row in rows):
        own = [row for row in rows if row["condition"] == condition and row["relation"] != OWN]
        sentences = [_sentence(row, answers.styles) for row in own]
        found.append(Finding(condition, sentences or ["No other model masks this one."]))
    return found


def validation_table(answers: Answers) -> Table:
    """Every fill and control: areas under own masks and controls, and whether own masks hurt more."""
    areas: dict[tuple[str, str, str], list[Row]] = {}
    for row in answers.losses.to_pylist():
        if row["relation"] == OWN and row["loss"] is not None:
            areas.setdefault((row["fill"], row["control"], row["condition"]), []).append(row)
    rows = []
    for row in (row for row in answers.transfer if row["relation"] == OWN):
        own = areas.get((row["fill"], row["control"], row["condition"]), [])
        rows.append(
            [
                TableCell(row["condition"]),
                TableCell(row["fill"]),
                TableCell(row["control"]),
                number(_mean([one["auc_mask"] for one in own])),
                number(_mean([one["auc_control"] for one in own])),
                number(row["loss"]),
                TableCell(_interval(row["loss_low"], row["loss_high"])),
                TableCell("yes" if row["validated"] else "no"),
            ]
        )
    heads = ["model", "fill", "control", "AUC, own", "AUC, control", "loss", "95 % interval", "validated"]
    return Table("Own masks against controls; a loss above 0 means that own masks hurt more", heads, rows)


def transfer_table(answers: Answers) -> Table:
    """Every transfer index, by fill, control, condition and bin."""
    rows = [
        [
            TableCell(row["condition"]),
            TableCell(answers.styles.relations[row["relation"]].name),
            TableCell(row["fill"]),
            TableCell(row["control"]),
            TableCell(f"{row['n_pairs']:,}", row["n_pairs"]),
            number(row["loss"]),
            number(row["transfer"]),
            TableCell(_interval(row["low"], row["high"])),
            TableCell(row["note"]),
        ]
        for row in answers.transfer
        if row["relation"] != OWN
    ]
    heads = ["destination", "source", "fill", "control", "pairs", "loss", "T", "95 % interval", "note"]
    return Table("Transfer index T of every bin, under every fill and control", heads, rows)


def readings_table(answers: Answers) -> Table:
    """What the paper's tests and the transfer index say of the same sources, and whether they agree."""
    indices = {(row["condition"], row["relation"]): row for row in answers.answered}
    rows = []
    for pair in answers.pairwise[LOG]:
        if pair["test"] != "paired" or OWN not in (pair["source_a"], pair["source_b"]):
            continue
        source = pair["source_b"] if pair["source_a"] == OWN else pair["source_a"]
        index = indices.get((pair["condition"], source or ""))
        if source is None or index is None:
            continue
        paper = (
            "no test" if pair["p_holm"] is None else "apart" if pair["p_holm"] < ALPHA else "not told apart"
        )
        ours = (
            "no index"
            if index["transfer"] is None
            else "not told apart"
            if index["low"] <= 1 <= index["high"]
            else "apart"
        )
        known = None not in (pair["p_holm"], index["transfer"])
        rows.append(
            [
                TableCell(pair["condition"]),
                TableCell(answers.styles.relations[source].name),
                TableCell(paper if pair["p_holm"] is None else f"{paper}, {p_value(pair['p_holm'])}"),
                TableCell(ours if index["transfer"] is None else f"{ours}, T = {index_with_interval(index)}"),
                TableCell(("yes" if paper == ours else "no") if known else "cannot be said"),
            ]
        )
    heads = ["destination", "source", "the paper's test", "transfer index", "same verdict"]
    return Table(
        f"Own masks against each other source: areas under the fill {answers.paper_fill} (paired t test, Holm), and the "
        f"transfer index under the fill {answers.answer_fill}",
        heads,
        rows,
    )


def _own(rows: Sequence[Row], fill: str, control: str) -> list[Row]:
    wanted = (OWN, fill, control)
    return [row for row in rows if (row["relation"], row["fill"], row["control"]) == wanted]


def _sentence(row: Row, styles: Styles) -> str:
    name = styles.relations[row["relation"]].name
    if row["transfer"] is None:
        return f"{name[0].upper()}{name[1:]}: {row['note']}."
    if row["low"] > 1:
        said = "more than own masks find"
    elif row["high"] < 0:
        said = "less than the control finds"
    elif row["low"] > 0:
        said = (
            "not told apart from own masks"
            if row["high"] >= 1
            else "more than the control, less than own masks"
        )
    else:
        said = "nothing is shown" if row["high"] >= 1 else "not told apart from the control"
    note = f" ({row['note']})" if row["note"] else ""
    return f"{name[0].upper()}{name[1:]}: T = {index_with_interval(row)}, {said}{note}."


def index_with_interval(row: Row) -> str:
    """'0.74 (0.60 to 0.90)' of a row of `transfer` that has an index."""
    return f"{row['transfer']:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def _interval(low: float | None, high: float | None) -> str:
    # Non-breaking spaces: an interval stays on one line.
    return "none" if low is None or high is None else f"{low:.3f}\u00a0to\u00a0{high:.3f}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
