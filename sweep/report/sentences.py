"""The tests of a study as sentences with numbers, made from the rows of the queries."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.report.style import Styles

Row = Mapping[str, Any]

ALPHA = 0.05
"""Below this p a sentence says that there is an effect."""
AS_PRINTED = "between"
"""The design of the paper's own F values; the other design of each test is the one the data call for."""
READINGS = {
    "between": "as printed in the paper",
    "mixed": "mixed ANOVA",
    "repeated": "repeated-measures ANOVA",
}
"""What a design of the queries is called."""
PAIRS = 10
"""Pairs of sources that a sentence names; a table has them all."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_EFFECTS = {
    "pretraining": "pretraining",
    "mask_source": "mask source (own or another initialisation)",
    "pretraining:mask_source": "an interaction of pretraining and mask source",
}


@dataclass(frozen=True)
class Finding:
    """What the tests say about one task or one kind of destination model."""

    subject: str
    sentences: Sequence[str]


def p_value(p: float) -> str:
    """'p = 0.023', 'p = 2.8 × 10⁻⁶', or 'p < 10⁻³⁰⁰' where it is smaller than can be told."""
    if p < 1e-300:
        return "p < 10⁻³⁰⁰"
    if p >= 0.001:
        return f"p = {p:.2g}"
    digits, exponent = f"{p:.1e}".split("e")
    return f"p = {digits} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def f_test(row: Row) -> str:
    """'F(1, 16) = 49.6, p = 2.8 × 10⁻⁶', or the reason why there is no test."""
    if row["f"] is None:
        return str(row["note"])
    return f"F({row['df']:g}, {row['df_error']:g}) = {row['f']:.3g}, {p_value(row['p'])}"


def initialisation_findings(
    tests: Sequence[Row], effects: Sequence[Row], bins: Sequence[Row]
) -> list[Finding]:
    """Fig. 5: per task, pretraining × own or other initialisation, in both readings.

    `tests`, `effects` and `bins` are rows of the queries `anova_initialisation`, `effect_sizes` and `bins`.
    """
    found = []
    for task, extra in dict.fromkeys((row["task"], row["extra"]) for row in tests):
        own = [row for row in tests if (row["task"], row["extra"]) == (task, extra)]
        sizes = [row for row in effects if (row["figure"], row["family"], row["extra"]) == ("5", task, extra)]
        sentences = [_both(_EFFECTS[effect], own, sizes, effect) for effect in _EFFECTS]
        means = _mean_areas(
            [
                row
                for row in bins
                if (row["task"], row["extra"], row["relation"]) == (task, extra, "same_init")
            ],
            "pretraining",
        )
        if means:
            sentences.append(f"Mean AUC under the models' own masks: {means}.")
        found.append(Finding(", ".join(filter(None, [task, extra])), sentences))
    return found


def source_findings(
    tests: Sequence[Row], effects: Sequence[Row], pairs: Sequence[Row], styles: Styles
) -> list[Finding]:
    """Fig. 6: per kind of destination model, whether the source of the mask matters, and which sources differ.

    The arguments are rows of the queries `anova_source`, `effect_sizes` and `pairwise`.
    """
    found = []
    for condition in dict.fromkeys(row["condition"] for row in tests):
        own = [row for row in tests if row["condition"] == condition]
        sizes = [row for row in effects if (row["figure"], row["family"]) == ("6", condition)]
        sentences = [_both("mask source", own, sizes, "mask_source")]
        repeated = next(row for row in own if row["design"] != AS_PRINTED)
        if repeated["gg_p"] is not None:
            sentences.append(
                f"Corrected for unequal covariances (Greenhouse-Geisser ε = {repeated['gg_epsilon']:.2f}): "
                f"F({repeated['gg_df']:.2f}, {repeated['gg_df_error']:.2f}) = {repeated['f']:.3g}, "
                f"{p_value(repeated['gg_p'])}."
            )
        paired = [row for row in pairs if row["condition"] == condition and row["test"] == "paired"]
        sentences += _pair_sentences(paired, styles)
        found.append(Finding(condition, sentences))
    return found


def headline(initialisation: Sequence[Row], source: Sequence[Row]) -> str:
    """The study in two sentences, by the tests that respect repeated measures (`anova_initialisation`, `anova_source`)."""
    parts = []
    tested = [row for row in initialisation if row["effect"] == "mask_source" and row["design"] != AS_PRINTED]
    known = [row for row in tested if row["p"] is not None]
    if known:
        none = [row for row in known if row["p"] >= ALPHA]
        parts.append(
            f"Masks from another initialisation of the same model: no difference from the model's own masks was found "
            f"in {len(none)} of {len(known)} task{'s' * (len(known) != 1)}{_smallest(none, 'p')}."
        )
    sources = [row for row in source if row["design"] != AS_PRINTED]
    known = [row for row in sources if row["gg_p"] is not None]
    if known:
        some = [row for row in known if row["gg_p"] < ALPHA]
        parts.append(
            f"How much a mask hurts depends on which kind of model it came from in {len(some)} of {len(known)} "
            f"kind{'s' * (len(known) != 1)} of destination model{_largest(some, 'gg_p')}."
        )
    return " ".join(parts) or "The study is too small for a test; the reasons are given with each."


def source_name(relation: str | None, styles: Styles) -> str:
    """What a reader is told a bin is; 'none' where a query has no bin to name."""
    return "none" if relation is None else styles.relations[relation].name


def _both(name: str, tests: Sequence[Row], sizes: Sequence[Row], effect: str) -> str:
    """An effect in both readings, and whether they agree."""
    told, verdicts = [], []
    for row in (row for row in tests if row.get("effect", effect) == effect):
        size = next((s for s in sizes if s["design"] == row["design"] and s["effect"] == effect), None)
        eta = (
            f", partial η² = {size['partial_eta_sq']:.2f}"
            if size and size["partial_eta_sq"] is not None
            else ""
        )
        told.append(f"{f_test(row)}{eta} ({READINGS[row['design']]}{_omission(row)})")
        if row["p"] is not None:
            verdicts.append(row["p"] < ALPHA)
    if not verdicts:
        return f"{name[0].upper()}{name[1:]}: {tests[0]['note'] if len({r['note'] for r in tests}) == 1 else '; '.join(told)}."
    if len(set(verdicts)) > 1:
        opening = f"The two readings disagree about {_effect(name)}"
    elif verdicts[0]:
        opening = f"There is {_effect(name)}"
    else:
        opening = f"Not found: {_effect(name)}"
    return f"{opening}: {'; '.join(told)}."


def _effect(name: str) -> str:
    return name if name.startswith("an ") else f"an effect of {name}"


def _omission(row: Row) -> str:
    return f"; {row['note']}" if row["note"] and row["f"] is not None else ""


def _pair_sentences(pairs: Sequence[Row], styles: Styles) -> list[str]:
    known = [row for row in pairs if row["p_holm"] is not None]
    apart = sorted((row for row in known if row["p_holm"] < ALPHA), key=lambda row: row["p_holm"])
    alike = sorted((row for row in known if row["p_holm"] >= ALPHA), key=lambda row: row["p_holm"])
    sentences = []
    if apart:
        told = "; ".join([*(_pair(row, styles) for row in apart[:PAIRS]), *more(apart)])
        sentences.append(f"Pairs of sources that differ (paired t tests, p by Holm's correction): {told}.")
    if alike:
        named = [f"{_pair_of(row, styles)} ({_t(row)})" for row in alike[:PAIRS]]
        sentences.append(f"Pairs not told apart: {'; '.join([*named, *more(alike)])}.")
    notes = sorted({row["note"] for row in pairs if row["p_holm"] is None and row["note"]})
    if notes:
        sentences.append(f"Pairs without a test: {len(pairs) - len(known)} ({'; '.join(notes)}).")
    return sentences


def more(rows: Sequence[Any]) -> list[str]:
    """How many rows a sentence leaves out that names PAIRS of them: 'and 3 more', or nothing."""
    return [f"and {len(rows) - PAIRS} more"] if len(rows) > PAIRS else []


def _pair(row: Row, styles: Styles) -> str:
    more, less = (
        (row["source_a"], row["source_b"]) if row["difference"] > 0 else (row["source_b"], row["source_a"])
    )
    return f"{source_name(less, styles)} hurts more than {source_name(more, styles)}, by {abs(row['difference']):.3f} of AUC ({_t(row)})"


def _pair_of(row: Row, styles: Styles) -> str:
    return f"{source_name(row['source_a'], styles)} and {source_name(row['source_b'], styles)}"


def _t(row: Row) -> str:
    return f"t({row['df']:.3g}) = {abs(row['t']):.3g}, {p_value(row['p_holm'])}"


def _mean_areas(rows: Sequence[Row], by: str) -> str:
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["auc_log"] is not None:
            values.setdefault(row[by], []).append(row["auc_log"])
    return ", ".join(f"{name} {statistics.fmean(found):.3f}" for name, found in sorted(values.items()))


def _smallest(rows: Sequence[Row], column: str) -> str:
    return f" (smallest {p_value(min(row[column] for row in rows))})" if rows else ""


def _largest(rows: Sequence[Row], column: str) -> str:
    return f" (largest {p_value(max(row[column] for row in rows))})" if rows else ""
