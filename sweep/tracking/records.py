"""What is recorded of a study and of a model, in MLflow's terms."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from sweep import __version__
from sweep.analysis.provenance import TableIdentity, code_commit, environment, study_sha256
from sweep.plan import Model, Plan
from sweep.stages import key_of_study

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
"""Columns of the table `epochs` that are recorded per epoch."""
TAG_LENGTH = 1000
"""Characters of a tag; older servers take 5,000."""
_KINDS = {pa.string(): "string", pa.float32(): "float", pa.float64(): "double", pa.int32(): "integer"}


def study_tags(plan: Plan) -> dict[str, str]:
    """Tags of a study's run: they follow the study file when it changes, as parameters could not."""
    study = plan.study
    tags = {
        "sweep.version": __version__,
        "sweep.study_key": key_of_study(plan),
        "sweep.study_sha256": study_sha256(plan),
        "sweep.factors": _shortened(
            "; ".join(f"{name}: {', '.join(map(str, levels))}" for name, levels in study.factors if levels)
        ),
        "sweep.models": str(len(plan.models)),
        "sweep.python": environment()["python"],
        "mlflow.source.name": "sweep run",
        "mlflow.source.type": "LOCAL",
    }
    commit = code_commit()
    return tags | ({"mlflow.source.git.commit": commit.split()[0], "sweep.commit": commit} if commit else {})


def model_parameters(model: Model) -> dict[str, str]:
    """Parameters of a model's run: everything in its cell of the factorial."""
    cell = model.cell
    content: dict[str, Any] = {
        "pretraining": cell.pretraining,
        "task": cell.task,
        "seed": cell.seed,
        **cell.extra,
        "n_classes": len(model.classes),
        **cell.finetune.model_dump(),
    }
    return {name: str(value) for name, value in content.items()}


def dataset_input(plan: Plan) -> Any:
    """The study's images as a DatasetInput; its digest is the key of all pixels and labels."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    images, study = plan.images, plan.study.dataset
    split = images.table["split"].to_pylist()
    columns = [
        {"name": field.name, "type": _KINDS.get(field.type, "string")} for field in images.table.schema
    ]
    kind, _, location = study.source.partition(":")
    dataset = Dataset(
        name=study.source[:500],
        digest=images.key,
        source_type=kind,
        source=json.dumps({"source": study.source, "path": location, "study": plan.path.name}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(
            {
                "num_rows": len(images.ids),
                "train": split.count("train"),
                "validation": split.count("validation"),
                "with_maps": len(plan.selected),
                "identities": len(set(images.table["identity"].to_pylist())),
                "input_size": study.input_size,
            }
        ),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training and evaluation")])


def epoch_metrics(rows: Sequence[Mapping[str, float]], time_ms: int) -> list[Any]:
    """Rows of the table `epochs` as metrics whose step is the epoch."""
    from mlflow.entities import Metric

    return [Metric(name, row[name], time_ms, int(row["epoch"])) for row in rows for name in METRICS]


def study_files(plan: Plan, tables: Mapping[str, TableIdentity]) -> dict[str, bytes]:
    """Files that say where a study comes from and what identifies its tables, by path."""
    return {
        f"study/{plan.path.name}": plan.source,
        "environment.json": _json(environment()),
        "tables.json": _json({name: asdict(identity) for name, identity in tables.items()}),
    }


def _shortened(text: str) -> str:
    return text if len(text) <= TAG_LENGTH else text[: TAG_LENGTH - 4] + " ..."


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"
