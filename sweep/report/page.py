"""The report: one self-contained HTML page, made from a study's answers and figures."""

import base64
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweep import __version__
from sweep.analysis.provenance import code_commit, environment, study_sha256
from sweep.plan import Gaps, Plan
from sweep.report.ahead import asked_ahead
from sweep.report.answers import LOG, Answers
from sweep.report.exhibits import Exhibit, exhibits, fills, preference_names
from sweep.report.page_tables import (
    accuracy_table,
    agreement_of_verdicts,
    area_table,
    likeness_table,
    model_table,
    pair_table,
    sensitivity_table,
)
from sweep.report.people import findings as people_findings
from sweep.report.picture_exhibits import REMOVAL
from sweep.report.sentences import (
    ALPHA,
    headline,
    initialisation_findings,
    source_findings,
)
from sweep.report.validation import (
    answer,
    readings_table,
    transfer_findings,
    transfer_table,
    validation_table,
    verdict,
)
from sweep.stages import key_of_study
from sweep.storage.checksums import write_files

FILLS = {
    "mean": "the channel mean",
    "linear": "the weighted mean of its neighbours, with noise (linear imputation, Rong et al. 2022)",
    "zero": "black",
    "grey": "mid-grey",
    "noise": "uniform noise",
    "blur": "that of the blurred image",
}
"""What a removed pixel becomes, by the study's setting."""
CONTROLS = {
    "other_image": "the source's map of another image of another class",
    "mean_map": "the source's mean map of the other images",
    "randomized": "the source's map of the image with its weights permuted",
    "reversed": "the very map, its last pixels first",
    "blocks": "blocks of 8 x 8 pixels at random",
    "scattered": "single pixels at random",
}
"""What each control removes, by the study's setting."""
PAGE = "report/index.html"
"""Where the page stands, relative to the study's results."""


def write_report(answers: Answers) -> dict[str, bytes]:
    """Draw a study's figures, make its page and store both; returns each file's content by its path."""
    with asked_ahead(answers):
        drawn = exhibits(answers)
    files = {path: content for exhibit in drawn.values() for path, content in exhibit.files.items()}
    files[PAGE] = page(answers, drawn).encode()
    write_files(answers.store, files)
    return files


def page(answers: Answers, drawn: Mapping[str, Exhibit]) -> str:
    """The page as HTML."""
    folder = Path(__file__).parent / "template"
    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["source_of"] = source_of
    return templates.get_template("index.html").render(
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
        plan=answers.plan,
        study=answers.plan.study,
        asked=asked(answers.plan),
        headline=headline(answers.initialisation[LOG], answers.source[LOG]),
        verdict=verdict(answers),
        answer=answer(answers),
        transfer=transfer_findings(answers),
        validation=validation_table(answers),
        indices=transfer_table(answers),
        readings=readings_table(answers),
        fills=fills(answers),
        paper_fill=answers.paper_fill,
        answer_fill=answers.answer_fill,
        answer_control=answers.answer_control,
        exhibits=drawn,
        styles=answers.styles,
        initialisation=initialisation_findings(
            answers.initialisation[LOG], answers.effects[LOG], answers.bins[answers.paper_fill].to_pylist()
        ),
        source=source_findings(
            answers.source[LOG], answers.effects[LOG], answers.pairwise[LOG], answers.styles
        ),
        people=people_findings(answers),
        people_figures=list(preference_names(answers)),
        accuracy=accuracy_table(answers),
        models=model_table(answers),
        areas=area_table(answers),
        pairs=pair_table(answers),
        likeness=likeness_table(answers),
        sensitivity=sensitivity_table(answers),
        agreement=agreement_of_verdicts(answers),
        alpha=ALPHA,
        identities=answers.tables,
        environment=environment(),
        commit=code_commit(),
        version=__version__,
        study_key=key_of_study(answers.plan.without(Gaps())),
        study_sha256=study_sha256(answers.plan),
        study_text=answers.plan.source.decode(),
        root=answers.store.root,
        missing=answers.missing,
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
    removed = "" if study.masking.regions == 1 else f"squares of {study.masking.regions} pixels a side, "
    drawn = {name: study.masking.draws_of(name) for name in study.masking.controls}
    controls = [
        CONTROLS[name] + (f" (drawn {times} times)" if times > 1 else "") for name, times in drawn.items()
    ]
    composite = (
        study.relevance.composite if isinstance(study.relevance.composite, str) else "a composite of its own"
    )
    return [
        f"{len(plan.models):,} models: every combination of {', '.join(named)} with "
        f"{_counted(len(factors.seed), 'initialisation')} each. {learned(plan)}",
        f"{len(plan.images.ids):,} images of {study.dataset.source} at {study.dataset.input_size} pixels, "
        f"{held:,} of them held back from training. {len(plan.selected):,} images get relevance maps ({composite}) and masks.",
        f"Each of {len(plan.models):,} models, as a source of masks, masks the input of each of {len(plan.models):,} destination models, "
        f"at {levels} percent of the pixels, {removed}{REMOVAL[study.masking.order]} first. "
        f"A removed pixel becomes {' or '.join(FILLS[fill] for fill in study.masking.fills)}.",
        f"Controls remove as many pixels: {'; '.join(controls) or 'none'}.",
        *(
            [
                f"Every model gets maps by {len(factors.attribution)} attributions ({', '.join(factors.attribution)}); the page "
                f"tells of {next(iter(factors.attribution))}, and one figure compares them."
            ]
            if factors.attribution
            else []
        ),
    ]


def learned(plan: Plan) -> str:
    """What of the networks is trained, in a sentence."""
    parts: dict[str, None] = {}
    for model in plan.models:
        finetune = model.cell.finetune
        if plan.study.factors.pretraining[model.cell.pretraining].readout == "own":
            parts["nothing, as the networks bring their readouts along"] = None
            continue
        before = f"all layers from {finetune.from_layer} on" if finetune.from_layer else ""
        units = (
            f"new dense layers of {' and '.join(map(str, finetune.hidden))} units" if finetune.hidden else ""
        )
        parts[", ".join(filter(None, [before, units, "the readout" if before or units else ""]))] = None
    if list(parts) == [""]:
        return "All convolutional layers keep their pretrained weights; only the last layer, the readout, is learned."
    told = [part or "only the last layer, the readout" for part in parts]
    return f"What is learned: {'; or '.join(told)}. All layers before keep their pretrained weights."


def _counted(number: int, thing: str) -> str:
    return f"{number or 'no'} {thing}{'s' * (number != 1)}"
