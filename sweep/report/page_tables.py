"""The tables of the report page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.report.answers import LINEAR, LOG, Answers
from sweep.report.sentences import ALPHA, READINGS, f_test, p_value, source_name


@dataclass(frozen=True)
class TableCell:
    """A cell of a table: what is shown, and the number it sorts by where it is one."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[TableCell]]


def accuracy_table(answers: Answers) -> Table:
    """Accuracy on unmasked images by condition."""
    rows = []
    by_id = {row["model_id"]: row for row in answers.models.to_pylist()}
    for condition, models in answers.conditions.items():
        own = [by_id[model] for model in models]
        row = [
            TableCell(condition),
            TableCell(f"{len(own)}", len(own)),
            TableCell(f"{own[0]['n_classes']}", own[0]["n_classes"]),
        ]
        for split in ("train_accuracy", "val_accuracy"):
            values = [model[split] for model in own]
            row += [_share(sum(values) / len(values)), _share(min(values)), _share(max(values))]
        rows.append(row)
    heads = [
        f"{split}, {part}" for split in ("training", "validation") for part in ("mean", "lowest", "highest")
    ]
    return Table(
        "Accuracy on unmasked images, by condition", ["condition", "models", "classes", *heads], rows
    )


def model_table(answers: Answers) -> Table:
    """Every model, its accuracies, weights and MLflow run."""
    names = ["model_id", "seed", "train_accuracy", "val_accuracy", "weights_sha256", "mlflow_run_id"]
    rows = [
        [
            TableCell(row["model_id"]),
            TableCell(str(row["seed"]), row["seed"]),
            _share(row["train_accuracy"]),
            _share(row["val_accuracy"]),
            TableCell(row["weights_sha256"][:16]),
            TableCell(row["mlflow_run_id"] or "none"),
        ]
        for row in sorted(answers.models.to_pylist(), key=lambda row: row["model_id"])
    ]
    return Table("Every model", names, rows)


def area_table(answers: Answers) -> Table:
    """Mean areas by condition of the destination, fill and bin of the source."""
    order = list(answers.styles.relations)
    rows = [
        row
        for bins in answers.bins.values()
        for row in bins.group_by(["condition", "relation", "fill"])
        .aggregate([("auc_log", "mean"), ("auc_linear", "mean"), ("n_sources", "sum")])
        .to_pylist()
    ]
    rows.sort(key=lambda row: (row["condition"], row["fill"], order.index(row["relation"])))
    return Table(
        "Mean area under accuracy, by condition of the destination, fill and bin of the source",
        [
            "destination",
            "fill",
            "source of the mask",
            "bin",
            "pairs",
            "AUC over log percent",
            "AUC over percent",
        ],
        [
            [
                TableCell(row["condition"]),
                TableCell(row["fill"]),
                TableCell(answers.styles.relations[row["relation"]].name),
                TableCell(row["relation"]),
                TableCell(f"{row['n_sources_sum']:,}", row["n_sources_sum"]),
                number(row["auc_log_mean"]),
                number(row["auc_linear_mean"]),
            ]
            for row in rows
        ],
    )


def pair_table(answers: Answers) -> Table:
    """Every pair of mask sources, by three t tests."""
    heads = [
        "destination",
        "one source",
        "other source",
        "test",
        "difference of AUC",
        "t",
        "df",
        "p, Holm",
        "Cohen's d",
        "note",
    ]
    rows = []
    for row in answers.pairwise[LOG]:
        one, other = (source_name(row[name], answers.styles) for name in ("source_a", "source_b"))
        p = (
            TableCell("none")
            if row["p_holm"] is None
            else TableCell(p_value(row["p_holm"]).removeprefix("p = "), row["p_holm"])
        )
        numbers = (
            number(row["difference"]),
            number(row["t"]),
            number(row["df"]),
            p,
            number(row["cohens_d"]),
        )
        rows.append(
            [
                TableCell(row["condition"]),
                TableCell(one),
                TableCell(other),
                TableCell(row["test"]),
                *numbers,
                TableCell(row["note"]),
            ]
        )
    return Table("Every pair of sources, by three t tests", heads, rows)


def likeness_table(answers: Answers) -> Table:
    """Correlations of maps by relation and conditions."""
    rows = answers.similarity.to_pylist()
    return Table(
        "Correlation of relevance maps, by relation of the two models and their conditions",
        ["relation", "condition", "other condition", "pairs of models", "mean r", "lowest r", "highest r"],
        [
            [
                TableCell(answers.styles.relations[row["relation"]].name),
                TableCell(row["condition_a"]),
                TableCell(row["condition_b"]),
                TableCell(f"{row['n_pairs']:,}", row["n_pairs"]),
                *(number(row[name]) for name in ("pearson", "pearson_min", "pearson_max")),
            ]
            for row in rows
        ],
    )


def sensitivity_table(answers: Answers) -> Table:
    """Every test by both axes and both readings."""
    rows = []
    for linear, log in _paired_tests(answers):
        subject = log.get("condition") or ", ".join(filter(None, [log["task"], log["extra"]]))
        same = (
            "no test"
            if None in (log["p"], linear["p"])
            else "yes"
            if _verdict(log) == _verdict(linear)
            else "no"
        )
        rows.append(
            [
                TableCell(subject),
                TableCell(log.get("effect", "mask_source").replace("_", " ")),
                TableCell(READINGS[log["design"]]),
                TableCell(f_test(log), log["p"]),
                TableCell(f_test(linear), linear["p"]),
                TableCell(same),
            ]
        )
    heads = ["subject", "effect", "reading", "log percent", "percent", f"same verdict at {ALPHA:g}"]
    return Table("Every test with the area over log percent and over percent, in both readings", heads, rows)


def agreement_of_verdicts(answers: Answers) -> list[str]:
    """How far the conclusions depend on the axis and on the reading of the design."""
    pairs = [pair for pair in _paired_tests(answers) if None not in (pair[0]["p"], pair[1]["p"])]
    same = sum(_verdict(linear) == _verdict(log) for linear, log in pairs)
    by_test: dict[tuple[Any, ...], list[bool]] = {}
    for _, log in pairs:
        name = (log.get("condition"), log.get("task"), log.get("extra"), log.get("effect"))
        by_test.setdefault(name, []).append(_verdict(log))
    both = [verdicts for verdicts in by_test.values() if len(verdicts) == 2]
    agreeing = sum(verdicts[0] == verdicts[1] for verdicts in both)
    return [
        f"Axis: of {len(pairs)} tests, {same} come to the same verdict at {ALPHA:g} with the area over log percent and over percent.",
        f"Reading: of {len(both)} effects tested in both readings, {agreeing} come to the same verdict.",
    ]


def _paired_tests(answers: Answers) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each test over percent and over log percent."""
    return [
        *zip(answers.initialisation[LINEAR], answers.initialisation[LOG], strict=True),
        *zip(answers.source[LINEAR], answers.source[LOG], strict=True),
    ]


def _verdict(row: Mapping[str, Any]) -> bool:
    return bool(row["p"] < ALPHA)


def _share(value: float) -> TableCell:
    return TableCell(f"{100 * value:.1f} %", value)


def number(value: float | None) -> TableCell:
    """A number with three decimals, or 'none'."""
    return TableCell("none", None) if value is None else TableCell(f"{value:.3f}", value)
