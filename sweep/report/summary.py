"""What `sweep run` prints when a study is done: whether masks are valid, what transfers, accuracies, AUC by bin, the tests."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from rich.console import Console

from sweep.report.answers import LOG, Answers
from sweep.report.curves import OWN
from sweep.report.sentences import AS_PRINTED
from sweep.report.validation import answer, index_with_interval, verdict
from sweep.terminal.tables import print_table


def summarise(answers: Answers) -> None:
    """Print the main results of a finished study, the finding first."""
    console = Console(soft_wrap=True, highlight=False)
    for sentence in filter(None, (verdict(answers), answer(answers))):
        console.print(f"\n{sentence}", markup=False)
    indices = _indices(answers)
    if indices.num_rows:
        title = (
            "Transfer index, 95 % interval (1 = finds all that own masks find, 0 = no more than the control "
            f"{answers.answer_control}; fill {answers.answer_fill})"
        )
        print_table(indices, f"\n{title}")
    print_table(_accuracies(answers.models), "\nAccuracy on unmasked images")
    fill = answers.paper_fill
    print_table(
        _mean_auc(answers.bins[fill]),
        f"\nAUC of accuracy over log percent masked (1 = masks never hurt; fill {fill})",
    )
    tests = [
        (f"{', '.join(filter(None, [row['task'], row['extra']]))}: {row['effect']}", row)
        for row in answers.initialisation[LOG]
    ]
    tests += [(f"{row['condition']}: {row['sources']}", row) for row in answers.source[LOG]]
    print_table(_side_by_side(tests), f"\nANOVA of AUC (fill {fill})")


def _indices(answers: Answers) -> pa.Table:
    """One row per kind of destination model, one column per bin."""
    rows: dict[str, dict[str, str]] = {}
    for row in answers.answered:
        if row["relation"] != OWN:
            told = "none" if row["transfer"] is None else index_with_interval(row)
            rows.setdefault(row["condition"], {"condition": row["condition"]})[row["relation"]] = told
    return pa.Table.from_pylist(list(rows.values()))


def _accuracies(models: pa.Table) -> pa.Table:
    grouped = models.group_by(["pretraining", "task"])
    table = grouped.aggregate(
        [("task", "count"), *((f"{part}_accuracy", "min") for part in ("train", "val"))]
    )
    table = table.rename_columns({"task_count": "models"})
    return table.sort_by([("pretraining", "ascending"), ("task", "ascending")])


def _mean_auc(bins: pa.Table) -> pa.Table:
    grouped = bins.group_by(["condition", "relation"])
    table = grouped.aggregate([("auc_log", "mean"), ("auc_linear", "mean"), ("n_sources", "sum")])
    return table.rename_columns(
        {
            "relation": "mask source",
            "auc_log_mean": "auc_log",
            "auc_linear_mean": "auc_linear",
            "n_sources_sum": "pairs",
        }
    ).sort_by([("condition", "ascending"), ("auc_log", "ascending")])


def _side_by_side(tests: list[tuple[str, Mapping[str, Any]]]) -> pa.Table:
    """One row per effect: the F test as the paper prints it beside the one that respects repeated measures."""
    rows: dict[str, dict[str, str]] = {}
    for effect, row in tests:
        column = "as printed in the paper" if row["design"] == AS_PRINTED else "repeated measures"
        rows.setdefault(effect, {"effect": effect})[column] = _in_words(row)
    return pa.Table.from_pylist(list(rows.values()))


def _in_words(row: Mapping[str, Any]) -> str:
    if row["f"] is None:
        return str(row["note"])
    return f"F({row['df']:g}, {row['df_error']:g}) = {row['f']:.4g}, p = {row['p']:.2g}"
