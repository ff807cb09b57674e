"""An experiment as a data set to be shared: Psych-DS (CSV) or BIDS (TSV per observer, `_beh`).

The columns have these standards' names. Times are in seconds. Observers keep their pseudonyms in Psych-DS and get numbers in
BIDS, whose labels are letters and digits only. Who is shown is told by the names of the classes and images: pictures are
written on request.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from sweep.errors import InputError
from sweep.human.simulating import PREFIX
from sweep.human.tables import RESPONSES, SESSIONS, TRIALS, read_table
from sweep.plan import Plan
from sweep.storage.files import Files
from sweep.storage.schemas import SCHEMAS

BIDS_VERSION = "1.10.0"
SCHEMA_VERSION = "Psych-DS 0.4.0"
TASK = "similarity"
STIMULI = "stimuli"
"""Folder of the pictures in both standards."""

Row = dict[str, Any]

_TRIAL_COLUMNS = (
    "block",
    "trial_type",
    "target",
    "condition_a",
    "condition_b",
    "option_a",
    "option_b",
    "left",
    "expected",
)
"""Columns of `human_trials` that each answer is exported with."""
_NEW = {
    "row_id": "number of the row, unique in the file",
    "condition_id": "the condition whose choice was chosen, in test trials",
    "stimulus_id": "the picture that the two options were compared with",
    "stim_file": "the same, as a file below stimuli/",
    "stim_file_a": "picture of option a, below stimuli/",
    "stim_file_b": "picture of option b, below stimuli/",
    "excluded": "whether the tests leave the session out",
    "participant_id": "the observer",
    "duration": "from the onset to the answer, seconds",
}
"""Columns that no table has, and what they mean."""


def psych_ds(plan: Plan, files: Files, experiment: str, target: Path, stimuli: bool) -> list[str]:
    """Write the answers as one CSV file with a description of every column; returns the paths written."""
    columns = [
        "row_id",
        "subject_id",
        "session_id",
        "trial_id",
        "condition_id",
        "stimulus_id",
        "list",
        "position",
        *_TRIAL_COLUMNS,
        "onset",
        "response_time",
        "side",
        "choice",
        "source",
        "hidden",
        "resumed",
        "image_px",
        "excluded",
    ]
    data = _rows(files, experiment)
    rows = [{**row, "row_id": number} for number, row in enumerate(data, 1)]
    described = {
        "@context": "https://schema.org",
        "@type": "Dataset",
        "name": f"{plan.study.name}, comparison with people {experiment}",
        "description": _about(plan, data),
        "schemaVersion": SCHEMA_VERSION,
        "variableMeasured": [
            {"@type": "PropertyValue", "name": name, "description": _meaning(name)} for name in columns
        ],
    }
    content = {
        "dataset_description.json": _json(described),
        f"data/study-{_label(plan.study.name)}_experiment-{experiment}_data.csv": _delimited(
            rows, columns, ","
        ),
    }
    return _write(plan, content, target, _shown(files, experiment) if stimuli else [])


def bids(plan: Plan, files: Files, experiment: str, target: Path, stimuli: bool) -> list[str]:
    """Write a TSV file per observer with its sidecar, and the list of participants; returns the paths written."""
    columns = [
        "onset",
        "duration",
        "trial_type",
        "response_time",
        "stim_file",
        "stim_file_a",
        "stim_file_b",
        "session_id",
        "trial_id",
        "list",
        "position",
        *(name for name in _TRIAL_COLUMNS if name != "trial_type"),
        "side",
        "choice",
        "condition_id",
        "source",
        "hidden",
        "resumed",
        "image_px",
        "excluded",
    ]
    rows = _rows(files, experiment)
    subjects = sorted({row["subject_id"] for row in read_table(files, experiment, SESSIONS).to_pylist()})
    participants = [{"participant_id": f"sub-{number:04d}"} for number, _ in enumerate(subjects, 1)]
    sidecar = _json({name: {"Description": _meaning(name)} for name in columns})
    content = {
        "dataset_description.json": _json(
            {
                "Name": f"{plan.study.name}, comparison with people {experiment}",
                "BIDSVersion": BIDS_VERSION,
                "DatasetType": "raw",
            }
        ),
        "README": _about(plan, rows).encode() + b"\n",
        "participants.tsv": _delimited(participants, ["participant_id"], "\t"),
        "participants.json": _json({"participant_id": {"Description": _meaning("participant_id")}}),
    }
    for participant, subject in zip(participants, subjects, strict=True):
        name = participant["participant_id"]
        own = [{**row, "duration": row["response_time"]} for row in rows if row["subject_id"] == subject]
        stem = f"{name}/beh/{name}_task-{TASK}_beh"
        content |= {f"{stem}.tsv": _delimited(own, columns, "\t", none="n/a"), f"{stem}.json": sidecar}
    return _write(plan, content, target, _shown(files, experiment) if stimuli else [])


def _rows(files: Files, experiment: str) -> list[Row]:
    """Every answer with its trial, in the order of sessions and positions."""
    trials = {
        (row["list"], row["trial_id"]): row for row in read_table(files, experiment, TRIALS).to_pylist()
    }
    excluded = {
        row["session_id"]: row["excluded"] for row in read_table(files, experiment, SESSIONS).to_pylist()
    }
    rows = []
    for answer in read_table(files, experiment, RESPONSES).to_pylist():
        trial = trials[answer["list"], answer["trial_id"]]
        test = trial["trial_type"] == "test"
        rows.append(
            {
                **answer,
                **{name: trial[name] for name in _TRIAL_COLUMNS},
                "condition_id": trial[f"condition_{answer['choice']}"] if test else None,
                "stimulus_id": trial["target_image"],
                "stim_file": file_of(trial["target_image"]),
                "stim_file_a": file_of(trial["image_a"]),
                "stim_file_b": file_of(trial["image_b"]),
                "excluded": excluded[answer["session_id"]],
            }
        )
    return rows


def _shown(files: Files, experiment: str) -> list[str]:
    rows = read_table(files, experiment, TRIALS).to_pylist()
    return sorted({row[name] for row in rows for name in ("target_image", "image_a", "image_b")})


def file_of(image: str) -> str:
    """Name of an image's file below the folder of stimuli."""
    kept = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in image)
    return f"{kept}.png"


def _write(plan: Plan, content: Mapping[str, bytes], target: Path, images: Sequence[str]) -> list[str]:
    names = [file_of(image) for image in images]
    if len(set(names)) < len(names):
        raise InputError(
            "--stimuli: two images have the same name but for signs that a file cannot have; rename one"
        )
    files = dict(content)
    for image, name in zip(images, names, strict=True):
        png = io.BytesIO()
        Image.fromarray(plan.images.pixels[plan.images.ids.index(image)]).save(png, format="PNG")
        files[f"{STIMULI}/{name}"] = png.getvalue()
    for path, data in files.items():
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return list(files)


def _meaning(column: str) -> str:
    """What a column is, from the tables' own descriptions."""
    if column in _NEW:
        return _NEW[column]
    table: pa.Schema = SCHEMAS[TRIALS if column in SCHEMAS[TRIALS].names else RESPONSES]
    return str(table.field(column).metadata[b"doc"].decode())


def _about(plan: Plan, rows: Sequence[Row]) -> str:
    rehearsed = any(row["session_id"].startswith(PREFIX) for row in rows)
    return ("Sessions whose names begin with simulated- are no people. " if rehearsed else "") + (
        "People saw a target face and two other faces, each the second choice of a kind of neural network for that target, and "
        f"chose the one more like the target. Networks and images are those of the study {plan.study.name} of relevance-sweep."
    )


def _label(name: str) -> str:
    """A name as a value in a file's name: letters and digits."""
    return "".join(letter for letter in name if letter.isascii() and letter.isalnum()) or "study"


def _delimited(rows: Sequence[Row], columns: Sequence[str], delimiter: str, none: str = "") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name], none) for name in columns])
    return text.getvalue().encode()


def _cell(value: Any, none: str) -> Any:
    if value is None:
        return none
    return str(value).lower() if isinstance(value, bool) else value


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
