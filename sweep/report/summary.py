"""What `sweep run` prints when a study is done: accuracies, AUC by bin and the tests."""

from typing import Any

import pyarrow as pa

from sweep.analysis.queries import run_query
from sweep.plan import Plan
from sweep.report.sentences import AS_PRINTED
from sweep.stages import finetune, index_of_study
from sweep.storage.store import Store
from sweep.terminal.tables import print_table


def summarise(plan: Plan, store: Store) -> None:
    """Print the main results of a finished study."""
    models = store.read(
        finetune.model_units(plan).values(), columns=["pretraining", "task", "train_accuracy", "val_accuracy"]
    )
    index = index_of_study(plan)
    print_table(_accuracies(models), "\nAccuracy on unmasked images")
    bins = run_query("bins", store.root, index=index)
    print_table(_mean_auc(bins), "\nAUC of accuracy over log percent masked (1 = masks never hurt)")
    initialisation = run_query("anova_initialisation", store.root, index=index).to_pylist()
    source = run_query("anova_source", store.root, index=index).to_pylist()
    tests = [
        (f"{', '.join(filter(None, [row['task'], row['extra']]))}: {row['effect']}", row)
        for row in initialisation
    ]
    tests += [(f"{row['condition']}: {row['sources']}", row) for row in source]
    print_table(_side_by_side(tests), "\nANOVA of AUC")


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


def _side_by_side(tests: list[tuple[str, dict[str, Any]]]) -> pa.Table:
    """One row per effect: the F test as the paper prints it beside the one that respects repeated measures."""
    rows: dict[str, dict[str, str]] = {}
    for effect, row in tests:
        column = "as printed in the paper" if row["design"] == AS_PRINTED else "repeated measures"
        rows.setdefault(effect, {"effect": effect})[column] = _in_words(row)
    return pa.Table.from_pylist(list(rows.values()))


def _in_words(row: dict[str, Any]) -> str:
    if row["f"] is None:
        return str(row["note"])
    return f"F({row['df']:g}, {row['df_error']:g}) = {row['f']:.4g}, p = {row['p']:.2g}"
