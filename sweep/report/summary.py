"""What `sweep run` prints when a study is done: accuracies, AUC by bin, the tests, and where to look further."""

import io

import pyarrow as pa
from rich.console import Console

from sweep.plan import Plan
from sweep.queries import run_query
from sweep.report.figures import accuracy_curves
from sweep.report.tables import print_table
from sweep.store import Store

TESTS = ("anova_initialisation", "anova_source")


def summarise(plan: Plan, store: Store, console: Console) -> None:
    """Print the main results of a finished study and draw its accuracy curves."""
    models = store.read(
        plan.model_units.values(), columns=["pretraining", "task", "train_accuracy", "val_accuracy"]
    )
    print_table(_accuracies(models), console, title="\nAccuracy on unmasked images")
    bins = run_query(
        "bins", store.root, {"draws": plan.study.analysis.draws, "draw_seed": plan.study.analysis.draw_seed}
    )
    print_table(_mean_auc(bins), console, title="\nAUC by destination and bin (1 = masks never hurt)")
    for name in TESTS:
        print_table(run_query(name, store.root, {}), console, title=f"\n{name}")


def draw_figures(store: Store) -> dict[str, bytes]:
    """Draw a finished study's figures and store them; returns the files' content by path under the results root."""
    figure = accuracy_curves(run_query("accuracy_curves", store.root, {}))
    drawn = {}
    for form in ("png", "svg"):
        content = io.BytesIO()
        figure.savefig(content, format=form, dpi=160, metadata={"Date": None} if form == "svg" else None)
        drawn[f"figures/accuracy_curves.{form}"] = content.getvalue()
    for path, content_of in drawn.items():
        store.write_file(path, content_of)
    return drawn


def _accuracies(models: pa.Table) -> pa.Table:
    grouped = models.group_by(["pretraining", "task"])
    table = grouped.aggregate([("train_accuracy", "mean"), ("val_accuracy", "mean"), ("val_accuracy", "min")])
    return table.sort_by([("pretraining", "ascending"), ("task", "ascending")])


def _mean_auc(bins: pa.Table) -> pa.Table:
    grouped = bins.group_by(["condition", "relation"])
    table = grouped.aggregate([("auc_log", "mean"), ("auc_linear", "mean"), ("destination_id", "count")])
    return table.rename_columns({"destination_id_count": "destinations"}).sort_by(
        [("condition", "ascending"), ("auc_log_mean", "ascending")]
    )
