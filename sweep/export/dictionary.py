"""The data dictionary of an export: what every column of every table means, as Psych-DS has it."""

import json
from collections.abc import Mapping

import pyarrow as pa

from sweep import __version__
from sweep.plan import Plan
from sweep.stages import columns_of, key_of_study

_OF_MODEL = {
    "condition": "kind of the destination model: its factor levels but for the seed, joined by '-'",
    "pretraining": "level of the factor pretraining: which backbone",
    "task": "level of the factor task: what the readout tells apart",
    "extra": "levels of further factors as 'factor=level'; empty where the study has none",
    "fill": "what removed pixels became",
    "relation": (
        "how the source of the mask relates to the destination: same_init (the model itself), "
        "same_task_same_pretraining (another seed), other_... (the factors that differ), random or blocks (no model)"
    ),
}
_OF_AREA = {
    **_OF_MODEL,
    "seed": "level of the factor seed: initialisation and batch order of the readout",
    "source_id": "the model whose map made the mask; 'random-k' or 'blocks-k' where none did",
    "destination_id": "the model that sees the masked image",
    "auc_log": (
        "area under accuracy over log10(percent removed), for percents above 0 and below 100, divided by its range; "
        "1 = masks never hurt"
    ),
    "auc_linear": "the same area over percent removed, 0 and 100 included where the study has them",
}
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "mapped": {
        "position": "place of the image in the arrays of maps/ and masks/, counted from 0",
        "image_id": "name of the image",
    },
    "auc": {
        **_OF_AREA,
        "n_levels": "masking levels evaluated",
        "n_images": "images evaluated",
        "complete": "whether the pair has all levels and images; otherwise no bin and no test uses it",
        "note": "why a figure is missing",
    },
    "bins": {
        **_OF_AREA,
        "auc_log": "mean of auc_log over the sources of the bin: what the tests compare",
        "auc_linear": "mean of auc_linear over the sources of the bin",
        "n_sources": "sources in the bin",
        "n_draws": "draws of a source with replacement, as in the paper",
        "drawn_auc_log": "mean of auc_log over these draws",
        "drawn_auc_linear": "mean of auc_linear over these draws",
        "drawn_se_log": "standard deviation of auc_log over the draws / sqrt(n_draws)",
        "drawn_se_linear": "standard deviation of auc_linear over the draws / sqrt(n_draws)",
    },
    "transfer": {
        **_OF_MODEL,
        "source_id": "'all': the row is about all sources of the bin",
        "destination_id": "'all': the row is about all destinations of the condition",
        "control": "mask of the same size that the loss is measured against",
        "n_pairs": "pairs of source and destination",
        "n_destinations": "destination models",
        "n_images": "images; empty where the table masked holds counts",
        "loss": "specific loss: auc_log under the control less auc_log under the masks of the bin; above 0 = they hurt more",
        "loss_low": "lower bound of its 95 % confidence interval",
        "loss_high": "upper bound of its 95 % confidence interval",
        "own_loss": "specific loss of the same destinations under masks of their own",
        "own_low": "lower bound of its 95 % confidence interval",
        "own_high": "upper bound of its 95 % confidence interval",
        "transfer": "transfer index T = loss / own_loss: 1 = finds what own masks find, 0 = no more than the control",
        "low": "lower bound of the 95 % confidence interval of transfer",
        "high": "upper bound of the 95 % confidence interval of transfer",
        "validated": "for same_init, whether loss_low is above 0; else empty",
        "note": "why a figure is missing, or what an interval does not cover",
    },
    "tests": {
        **_OF_MODEL,
        "test": "initialisation (pretraining by own or other initialisation) or source (own or other kinds of model)",
        "measure": "what the test compares",
        "control": "the control of a specific loss; empty for areas",
        "design": "between = as printed in the paper; mixed and repeated = models measured with every source of masks",
        "effect": "the effect tested",
        "sources": "the bins compared",
        "n_models": "models in the test",
        "n_observations": "observations in the test",
        "n_pretrainings": "pretrainings in the test",
        "n_sources": "bins in the test",
        "df": "degrees of freedom of the effect",
        "df_error": "degrees of freedom of the error",
        "sum_sq": "sum of squares of the effect (type III)",
        "sum_sq_error": "sum of squares of the error",
        "sum_sq_subjects": "sum of squares between models",
        "f": "F",
        "p": "p of F",
        "gg_epsilon": "Greenhouse-Geisser epsilon",
        "gg_df": "degrees of freedom of the effect, corrected by epsilon",
        "gg_df_error": "degrees of freedom of the error, corrected by epsilon",
        "gg_p": "p of F with the corrected degrees of freedom",
        "note": "why a test is impossible, or what it leaves out",
    },
}
"""What the columns of tables mean that are not stored but answered by queries."""


def meaning(plan: Plan, table: str, column: str) -> str:
    """What a column of an exported table means."""
    if table in COLUMNS:
        return COLUMNS[table][column]
    field = columns_of(plan, table).field(column)
    return str((field.metadata or {}).get(b"doc", b"label named by the study"), "utf-8")


def description(plan: Plan, columns: Mapping[str, pa.Schema]) -> bytes:
    """The file dataset_description.json of Psych-DS: each column of the tables is a variable, once.

    Where a column means different things in different tables, the variable's description names the tables.
    """
    meanings: dict[str, dict[str, list[str]]] = {}
    for table, schema in columns.items():
        for column in schema.names:
            meanings.setdefault(column, {}).setdefault(meaning(plan, table, column), []).append(table)
    variables = [
        {"@type": "PropertyValue", "name": column, "description": _told(found)}
        for column, found in sorted(meanings.items())
    ]
    study = plan.study
    content = {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "name": study.name,
        "description": (
            f"{len(plan.models)} models of the study {study.name}, their predictions, and how each withstands masks made "
            f"from every model's relevance maps of {len(plan.selected)} images. Written by relevance-sweep {__version__}."
        ),
        "identifier": key_of_study(plan),
        "variableMeasured": variables,
    }
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def _told(found: Mapping[str, list[str]]) -> str:
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"in {', '.join(tables)}: {text}" for text, tables in found.items())
