"""The figures of a study with what is said about each: drawn from the tables, described by their numbers."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute
from matplotlib.figure import Figure

from sweep.errors import InputError
from sweep.report.answers import MATRIX_MODELS, Answers
from sweep.report.attributions import TITLE as ATTRIBUTIONS_TITLE
from sweep.report.attributions import attribution_exhibit
from sweep.report.curves import OTHER, OWN, control_curves, initialisation_curves, source_curves
from sweep.report.matrices import auc_matrix, model_pairs, similarity_matrix, transfer_matrix
from sweep.report.people import TITLE as PREFERENCE_TITLE
from sweep.report.people import preference_exhibit
from sweep.report.picture_exhibits import (
    Described,
    Impossible,
    agreement,
    kernels,
    masked_faces,
    model_maps,
    permuted_maps,
    second_choices,
)
from sweep.report.style import drawn
from sweep.stages import attributions

Row = Mapping[str, Any]

PERMUTED = "permuted_maps"
"""The figure that only studies with maps of permuted networks have."""
ATTRIBUTIONS = "attributions"
"""The figure that only studies with several attributions have."""
PANELS = 12
"""Conditions with a panel of curves each; the tables have all of them."""


@dataclass(frozen=True)
class Exhibit:
    """A figure as a report shows it, or the reason why there is none."""

    name: str
    """Stem of its files."""
    title: str
    caption: str
    alt: str
    """What it shows, with its numbers, for readers who cannot see it; '' where there is no figure."""
    png: bytes = b""
    svg: bytes = b""
    note: str = ""
    """Why there is no figure."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """Content by path; empty where there is no figure."""
        return {f"figures/{self.name}.{form}": getattr(self, form) for form in ("png", "svg") if self.png}


def exhibits(answers: Answers) -> dict[str, Exhibit]:
    """Every figure of a finished study, by name; those drawn once per fill are called `NAME_FILL`."""
    found = {name: _exhibit(name, title, draw, answers) for name, title, draw in _FIGURES}
    if "randomized" in answers.plan.study.masking.controls:
        found[PERMUTED] = _exhibit(PERMUTED, "Relevance with permuted weights", permuted_maps, answers)
    if attributions.levels(answers.plan):
        found[ATTRIBUTIONS] = _exhibit(ATTRIBUTIONS, ATTRIBUTIONS_TITLE, attribution_exhibit, answers)
    for name, title, draw_by_fill in _FIGURES_BY_FILL:
        for fill in fills(answers):
            by_fill = partial(draw_by_fill, fill=fill)
            found[f"{name}_{fill}"] = _exhibit(f"{name}_{fill}", f"{title} (fill {fill})", by_fill, answers)
    for name, experiment in preference_names(answers).items():
        found[name] = people_exhibit(answers, name, experiment)
    return found


def preference_names(answers: Answers) -> dict[str, str]:
    """The figures of what people prefer, a name for each experiment."""
    return {f"human_preference_{experiment}": experiment for experiment in answers.experiments}


def people_exhibit(answers: Answers, name: str, experiment: str) -> Exhibit:
    """What people prefer in one experiment (paper, Fig. 7)."""
    return _exhibit(name, PREFERENCE_TITLE, partial(preference_exhibit, experiment=experiment), answers)


def fills(answers: Answers) -> list[str]:
    """The study's fills: that of the paper's tests first, that of the answer last."""
    order = {answers.answer_fill: 2, answers.paper_fill: 0}
    return sorted(answers.plan.study.masking.fills, key=lambda fill: order.get(fill, 1))


def _exhibit(name: str, title: str, draw: Callable[[Answers], Described], answers: Answers) -> Exhibit:
    try:
        figure, caption, alt = draw(answers)
    except (Impossible, InputError) as reason:
        return Exhibit(name, title, "", "", note=str(reason))
    return Exhibit(name, title, caption, alt, *drawn(figure))


def _pairs(answers: Answers) -> Described:
    counts: dict[str, int] = {}
    auc = answers.auc[answers.paper_fill]
    for relation in auc["relation"].to_pylist():
        counts[relation] = counts.get(relation, 0) + 1
    listed = "; ".join(f"{style.name} {counts[name]:,}" for name, style in answers.styles.relations.items())
    return (
        model_pairs(_among(answers, auc), answers.shown, answers.styles),
        f"How each source of masks relates to each destination: the bins (paper, Fig. 3). {_cut(answers)}",
        f"A square of {auc.num_rows:,} source-destination pairs, coloured by bin. Pairs per bin: {listed}.",
    )


def _controls(answers: Answers, fill: str) -> Described:
    kept = list(answers.conditions)[:PANELS]
    curves = _where(_where(answers.control_curves, "condition", kept), "fill", [fill])
    losses = _where(_where(answers.losses, "condition", kept), "fill", [fill])
    if not answers.plan.study.masking.controls:
        raise Impossible("No figure: the study has no control.")
    if not curves.num_rows:
        raise Impossible("No figure: no model has every level and image under its own masks and a control.")
    told = "; ".join(
        f"{row['condition']}: {row['control']} {row['loss']:.3f}"
        for row in answers.transfer
        if (row["relation"], row["fill"]) == (OWN, fill) and row["loss"] is not None
    )
    return (
        control_curves(curves, losses),
        "Accuracy under a model's own masks and under controls that remove as many pixels elsewhere. Masks measure "
        f"what a model looks at where their curve is the lowest. {_spread(answers)}",
        "Line chart of accuracy against the percent of pixels removed. Area under the control minus area under own "
        f"masks: {told}.",
    )


def _transfer(answers: Answers) -> Described:
    if len(answers.plan.models) > MATRIX_MODELS:
        raise Impossible(
            f"No figure: more than {MATRIX_MODELS} models; sweep query transfer --set per=pair tells every pair."
        )
    known = [row for row in answers.pair_transfer if row["transfer"] is not None]
    if not known:
        raise Impossible(
            "No figure: no single pair of models has a transfer index; the reasons are in the table."
        )
    least, most = (choose(known, key=lambda row: row["transfer"]) for choose in (min, max))
    return (
        transfer_matrix(known, answers.shown),
        "Transfer index of every destination (column) under every source's masks (row): 1 where the masks find what the "
        f"destination's own find, 0 where they find no more than the control {answers.answer_control} "
        f"(fill {answers.answer_fill}).",
        f"Matrix of {len(known):,} transfer indices. Lowest {least['transfer']:.2f} (source {least['source_id']}, "
        f"destination {least['destination_id']}), highest {most['transfer']:.2f} (source {most['source_id']}, "
        f"destination {most['destination_id']}).",
    )


def _initialisation(answers: Answers, fill: str) -> Described:
    if len({OWN, OTHER} & set(answers.styles.relations)) < 2:
        raise Impossible("No figure: it compares initialisations, and the study has one seed.")
    return _curves(
        answers,
        fill,
        initialisation_curves,
        [OWN, OTHER],
        "Masks of the model itself (solid) and of another "
        "initialisation of the same model (dashed), per task (paper, Fig. 5).",
    )


def _sources(answers: Answers, fill: str) -> Described:
    return _curves(
        answers,
        fill,
        source_curves,
        [name for name in answers.styles.relations if name != OTHER],
        "Accuracy by where the mask came from, per kind of destination model (paper, Fig. 6).",
    )


def _curves(
    answers: Answers, fill: str, draw: Callable[..., Figure], relations: Sequence[str], caption: str
) -> Described:
    kept = list(answers.conditions)[:PANELS]
    curves, bins = (_where(table, "condition", kept) for table in (answers.curves[fill], answers.bins[fill]))
    if not curves.num_rows:
        raise Impossible("No figure: no pair of models has every level and image.")
    if bins["auc_log"].null_count == bins.num_rows:
        caption += " No areas: one needs two masking levels between 0 and 100 percent."
    areas = "; ".join(_areas(answers, bins.to_pylist(), condition, relations) for condition in kept)
    return (
        draw(curves, bins, answers.styles),
        f"{caption} {_spread(answers)}",
        f"Line chart of accuracy against the percent of pixels removed. Mean area under each curve (1 = never hurt): "
        f"{areas}.",
    )


def _spread(answers: Answers) -> str:
    cut = (
        f" The first {PANELS} of {len(answers.conditions)} conditions."
        if len(answers.conditions) > PANELS
        else ""
    )
    return f"Bands and bars: 95 % confidence over models of a condition (Student's t). Dotted: chance.{cut}"


def _areas(answers: Answers, bins: Sequence[Row], condition: str, relations: Sequence[str]) -> str:
    """A condition's mean areas in words."""
    values: dict[str, list[float]] = {}
    for row in bins:
        if row["condition"] == condition and row["relation"] in relations and row["auc_log"] is not None:
            values.setdefault(row["relation"], []).append(row["auc_log"])
    named = [
        f"{answers.styles.relations[r].name} {statistics.fmean(values[r]):.3f}"
        for r in relations
        if r in values
    ]
    return f"{condition}: {', '.join(named) or 'none'}"


def _auc_matrix(answers: Answers, fill: str) -> Described:
    known = [row for row in answers.auc[fill].to_pylist() if row["auc_log"] is not None]
    if not known:
        raise Impossible("No figure: an area needs two masking levels between 0 and 100 percent.")
    least, most = (choose(known, key=lambda row: row["auc_log"]) for choose in (min, max))
    return (
        auc_matrix(_among(answers, answers.auc[fill]), answers.shown),
        f"Area under accuracy over log percent of every destination under every source. {_cut(answers)}",
        f"Matrix of {len(known):,} areas. Lowest {least['auc_log']:.3f} (source {least['source_id']}, destination "
        f"{least['destination_id']}), highest {most['auc_log']:.3f} (source {most['source_id']}, destination "
        f"{most['destination_id']}).",
    )


def _similarity(answers: Answers) -> Described:
    rows = [row for row in answers.similarity.to_pylist() if row["condition_a"] == "all"]
    if not rows:
        raise Impossible("No figure: there is no pair of models to compare.")
    if all(row["pearson"] is None for row in rows):
        raise Impossible("No figure: in every pair of maps one is constant.")
    names = answers.styles.relations
    listed = "; ".join(
        f"{names[r['relation']].name} {r['pearson']:.3f}" for r in rows if r["pearson"] is not None
    )
    return (
        similarity_matrix(answers.pair_similarity, answers.shown),
        f"How alike the maps of two models are for the same images, ordered by factor. {_cut(answers)}",
        f"Matrix of mean correlations between the maps of two models. Mean by relation: {listed}.",
    )


def _where(table: pa.Table, column: str, values: Sequence[str]) -> pa.Table:
    return table.filter(pa.compute.is_in(table[column], pa.array(values)))


def _among(answers: Answers, auc: pa.Table) -> pa.Table:
    """Rows of `auc` whose destination is shown."""
    return _where(auc, "destination_id", [model for models in answers.shown.values() for model in models])


def _cut(answers: Answers) -> str:
    shown = sum(map(len, answers.shown.values()))
    everything = len(answers.plan.models)
    return (
        ""
        if shown == everything
        else f"{shown} of {everything} models are drawn: the first seeds of each condition."
    )


_FIGURES: Sequence[tuple[str, str, Callable[[Answers], Described]]] = (
    ("model_pairs", "The design: who masks whom", _pairs),
    ("conv1_kernels", "What the first layer sees", kernels),
    ("masked_example", "A face under ever larger masks", masked_faces),
    ("maps_across_models", "Relevance across models", model_maps),
    ("map_similarity", "How alike the maps are", _similarity),
    ("transfer_matrix", "How much of a model's evidence each other model finds", _transfer),
    ("rank2_faces", "The faces found most similar", second_choices),
    ("rank2_agreement", "Do the pretrainings agree?", agreement),
)
_FIGURES_BY_FILL: Sequence[tuple[str, str, Callable[..., Described]]] = (
    ("control_curves", "Own masks and controls", _controls),
    ("initialisation_curves", "Masks of another initialisation", _initialisation),
    ("accuracy_curves", "Masks of other models", _sources),
    ("auc_matrix", "Every source against every destination", _auc_matrix),
)
