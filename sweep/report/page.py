"""The report: one self-contained HTML page, made from a study's answers and figures."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweep import __version__
from sweep.plan import Plan
from sweep.provenance import code_commit, environment, study_sha256
from sweep.report.answers import LINEAR, LOG, Answers
from sweep.report.exhibits import REMOVAL, Exhibit, exhibits
from sweep.report.sentences import (
    ALPHA,
    READINGS,
    f_test,
    headline,
    initialisation_findings,
    p_value,
    source_findings,
    source_name,
)

FILLS = {
    "mean": "the channel mean",
    "zero": "black",
    "grey": "mid-grey",
    "noise": "uniform noise",
    "blur": "that of the blurred image",
}
"""What a removed pixel becomes, by the study's setting."""
PAGE = "report/index.html"
"""Where the page stands, relative to the study's results."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is shown, and the number it sorts by where it is one."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def write_report(answers: Answers) -> dict[str, bytes]:
    """Draw a study's figures, make its page and store both; returns each file's content by its path."""
    drawn = exhibits(answers)
    files = {path: content for exhibit in drawn.values() for path, content in exhibit.files.items()}
    files[PAGE] = page(answers, drawn).encode()
    for path, content in files.items():
        answers.store.write_file(path, content)
    return files


def page(answers: Answers, drawn: Mapping[str, Exhibit]) -> str:
    """The page as HTML."""
    folder = Path(__file__).parent / "template"
    templates = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    templates.globals["source_of"] = source_of
    return templates.get_template("index.html").render(
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
        plan=answers.plan,
        study=answers.plan.study,
        asked=asked(answers.plan),
        headline=headline(answers.initialisation[LOG], answers.source[LOG]),
        exhibits=drawn,
        looks=answers.looks,
        initialisation=initialisation_findings(
            answers.initialisation[LOG], answers.effects[LOG], answers.bins.to_pylist()
        ),
        source=source_findings(
            answers.source[LOG], answers.effects[LOG], answers.pairwise[LOG], answers.looks
        ),
        accuracy=_accuracy_table(answers),
        models=_model_table(answers),
        areas=_area_table(answers),
        pairs=_pair_table(answers),
        likeness=_likeness_table(answers),
        sensitivity=_sensitivity_table(answers),
        agreement=_agreement_of_verdicts(answers),
        alpha=ALPHA,
        identities=answers.tables,
        environment=environment(),
        commit=code_commit(),
        version=__version__,
        study_sha256=study_sha256(answers.plan),
        study_text=answers.plan.path.read_text(encoding="utf-8"),
        root=answers.store.root,
    )


def source_of(exhibit: Exhibit) -> str:
    """The figure as a data URI: SVG or PNG, whichever is smaller."""
    form, content = min(("svg+xml", exhibit.svg), ("png", exhibit.png), key=lambda pair: len(pair[1]))
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def asked(plan: Plan) -> list[str]:
    """What the study asks, in sentences."""
    study, factors = plan.study, plan.study.factors
    named = [
        f"pretraining ({', '.join(factors.pretraining)})",
        f"task ({', '.join(factors.task)})",
        *(f"{name} ({', '.join(levels)})" for name, levels in factors.extra.items()),
    ]
    held = plan.images.table["split"].to_pylist().count("validation")
    levels = ", ".join(f"{percent:g}" for percent in study.masking.percents)
    sources = len(plan.models) + len(plan.random_sources)
    composite = (
        study.relevance.composite if isinstance(study.relevance.composite, str) else "a composite of its own"
    )
    return [
        f"{len(plan.models):,} models: every combination of {', '.join(named)} with "
        f"{_counted(len(factors.seed), 'initialisation')} each. All convolutional layers keep their pretrained weights; only the last layer, the readout, is learned.",
        f"{len(plan.images.ids):,} images of {study.dataset.source} at {study.dataset.input_size} pixels, "
        f"{held:,} of them held back from training. {len(plan.selected):,} images get relevance maps ({composite}) and masks.",
        f"Each of {sources:,} sources of masks ({len(plan.models):,} models and {_counted(len(plan.random_sources), 'random order')}) "
        f"masks the input of each of {len(plan.models):,} destination models, at {levels} percent of the pixels, {REMOVAL[study.masking.order]} first. "
        f"A removed pixel becomes {FILLS[study.masking.fill]}.",
    ]  # fmt: skip


def _counted(number: int, thing: str) -> str:
    return f"{number or 'no'} {thing}{'s' * (number != 1)}"


def _accuracy_table(answers: Answers) -> Table:
    rows = []
    by_id = {row["model_id"]: row for row in answers.models.to_pylist()}
    for condition, models in answers.conditions.items():
        own = [by_id[model] for model in models]
        row = [
            Cell(condition),
            Cell(f"{len(own)}", len(own)),
            Cell(f"{own[0]['n_classes']}", own[0]["n_classes"]),
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


def _model_table(answers: Answers) -> Table:
    names = ["model_id", "seed", "train_accuracy", "val_accuracy", "weights_sha256", "mlflow_run_id"]
    rows = [
        [
            Cell(row["model_id"]), Cell(str(row["seed"]), row["seed"]), _share(row["train_accuracy"]),
            _share(row["val_accuracy"]), Cell(row["weights_sha256"][:16]), Cell(row["mlflow_run_id"] or "none"),
        ]
        for row in sorted(answers.models.to_pylist(), key=lambda row: row["model_id"])
    ]  # fmt: skip
    return Table("Every model", names, rows)


def _area_table(answers: Answers) -> Table:
    grouped = answers.bins.group_by(["condition", "relation"]).aggregate(
        [("auc_log", "mean"), ("auc_linear", "mean"), ("n_sources", "sum")]
    )
    order = list(answers.looks.relations)
    rows = sorted(grouped.to_pylist(), key=lambda row: (row["condition"], order.index(row["relation"])))
    return Table(
        "Mean area under accuracy, by condition of the destination and bin of the source",
        ["destination", "source of the mask", "bin", "pairs", "AUC over log percent", "AUC over percent"],
        [
            [
                Cell(row["condition"]), Cell(answers.looks.relations[row["relation"]].name), Cell(row["relation"]),
                Cell(f"{row['n_sources_sum']:,}", row["n_sources_sum"]),
                _number(row["auc_log_mean"]), _number(row["auc_linear_mean"]),
            ]
            for row in rows
        ],
    )  # fmt: skip


def _pair_table(answers: Answers) -> Table:
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
        one, other = (source_name(row[name], answers.looks) for name in ("source_a", "source_b"))
        p = (
            Cell("none")
            if row["p_holm"] is None
            else Cell(p_value(row["p_holm"]).removeprefix("p = "), row["p_holm"])
        )
        numbers = (
            _number(row["difference"]),
            _number(row["t"]),
            _number(row["df"]),
            p,
            _number(row["cohens_d"]),
        )
        rows.append(
            [Cell(row["condition"]), Cell(one), Cell(other), Cell(row["test"]), *numbers, Cell(row["note"])]
        )
    return Table("Every pair of sources, by three t tests", heads, rows)


def _likeness_table(answers: Answers) -> Table:
    rows = answers.similarity.to_pylist()
    return Table(
        "Correlation of relevance maps, by relation of the two models and their conditions",
        ["relation", "condition", "other condition", "pairs of models", "mean r", "lowest r", "highest r"],
        [
            [
                Cell(answers.looks.relations[row["relation"]].name), Cell(row["condition_a"]), Cell(row["condition_b"]),
                Cell(f"{row['n_pairs']:,}", row["n_pairs"]),
                *(_number(row[name]) for name in ("pearson", "pearson_min", "pearson_max")),
            ]
            for row in rows
        ],
    )  # fmt: skip


def _sensitivity_table(answers: Answers) -> Table:
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
                Cell(subject), Cell(log.get("effect", "mask_source").replace("_", " ")), Cell(READINGS[log["design"]]),
                Cell(f_test(log), log["p"]), Cell(f_test(linear), linear["p"]), Cell(same),
            ]
        )  # fmt: skip
    heads = ["subject", "effect", "reading", "log percent", "percent", f"same verdict at {ALPHA:g}"]
    return Table("Every test with the area over log percent and over percent, in both readings", heads, rows)


def _agreement_of_verdicts(answers: Answers) -> list[str]:
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
    ]  # fmt: skip


def _paired_tests(answers: Answers) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each test over percent and over log percent."""
    return [
        *zip(answers.initialisation[LINEAR], answers.initialisation[LOG], strict=True),
        *zip(answers.source[LINEAR], answers.source[LOG], strict=True),
    ]


def _verdict(row: Mapping[str, Any]) -> bool:
    return bool(row["p"] < ALPHA)


def _share(value: float) -> Cell:
    return Cell(f"{100 * value:.1f} %", value)


def _number(value: float | None) -> Cell:
    return Cell("none", None) if value is None else Cell(f"{value:.3f}", value)
