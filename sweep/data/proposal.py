"""What a first study on someone's pictures can be: read off the pictures and their labels."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from sweep.data.alike import look_alike
from sweep.data.images import TRAIN, VALIDATION, few_of_each, split
from sweep.data.sources import read_source
from sweep.errors import InputError
from sweep.study import Dataset
from sweep.study.draft import Draft

NATIVE, LARGER = 64, 96
"""Input sizes for the bundled backbones: what they were trained at, and what tells more persons apart where the images
have so many pixels (docs/backbones.md)."""
FRACTIONS = (Dataset.model_fields["validation_fraction"].default, 0.25, 0.34, 0.5)
"""Shares to hold back, the first that leaves enough persons a picture being taken: half is always enough."""
ENOUGH = 0.9
"""Share of the persons of whom a picture must be held back."""
TASKS = ("identity", "gender")
"""Labels that become tasks; as models are compared in pairs, further ones are left to the user."""
_LEVEL = re.compile(r"[A-Za-z0-9_.]+")

Columns = Mapping[str, Sequence[Any]]


def kind_of(path: Path) -> str:
    """Which kind of source a folder or a file is. Raises InputError where it is none."""
    if path.is_dir():
        return "folder"
    if path.suffix.lower() == ".csv":
        return "manifest"
    if path.suffix.lower() == ".mat":
        counts = Counter(image.identity for image in read_source(f"umist:{path.name}", path.parent))
        for kind, images in (("umist", 19), ("orl", 10)):
            if set(counts.values()) == {images}:
                return kind
        raise InputError(
            f"{path}: holds neither 19 images of each person, as UMIST does, nor 10, as ORL does; save the images as files, in "
            "a folder for each person"
        )
    raise InputError(f"{path}: is no folder, no .csv and no .mat file; name one of these")


def propose(source: str, base: Path) -> Draft:
    """The first study that the images of `source` allow; its path is relative to the folder `base`.

    Where they allow none, the draft is the one that is closest, so that planning it says what is missing.
    """
    columns, size = _survey(source, base)
    labels = [name for name in columns if name not in ("image_id", "split")]
    for stratify, fraction, part in _splits(columns, labels):
        allowed = [name for name in labels if _can_be_told(columns, name, part)]
        if allowed:
            tasks = tuple(name for name in TASKS if name in allowed) or (allowed[0],)
            further = tuple(name for name in allowed if name not in tasks)
            return Draft(source, size, tasks, further, "split" in columns, fraction, stratify)
    return Draft(source, size, TASKS[:1], has_split="split" in columns)


def _survey(source: str, base: Path) -> tuple[Columns, int]:
    """Ids and labels of all images, those without any value left out, and a size for the networks' input."""
    rows: list[dict[str, Any]] = []
    sides = []
    for image in read_source(source, base):
        fixed = {"image_id": image.image_id, "identity": image.identity, "gender": image.gender}
        rows.append(fixed | image.labels | {"view_deg": image.view_deg, "split": image.split})
        sides.append(max(image.pixels.shape[:2]))
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    known = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    larger = bool(sides) and np.median(sides) >= LARGER
    return known, LARGER if larger else NATIVE


def _splits(columns: Columns, labels: Sequence[str]) -> Iterator[tuple[str, float, Sequence[str]]]:
    """Ways to split the images, the best first: by which label, which share is held back, and train or validation of each."""
    if "split" in columns:
        yield "identity", FRACTIONS[0], columns["split"]
        return
    for stratify, fraction in product(labels, FRACTIONS):
        values = columns[stratify]
        if None in values or min(Counter(values).values()) < 2:
            continue
        part = split(columns["image_id"], values, fraction, Dataset.model_fields["split_seed"].default)
        held = {value for value, name in zip(values, part, strict=True) if name == VALIDATION}
        if len(held) >= ENOUGH * len(set(values)):
            yield stratify, fraction, part


def _can_be_told(columns: Columns, name: str, part: Sequence[str]) -> bool:
    """Whether a label can be a task: all images have it, its classes are trained, and two of them get maps."""
    values = columns[name]
    if None in values or not _LEVEL.fullmatch(name) or look_alike([str(value) for value in values]):
        return False
    trained = {value for value, split_of in zip(values, part, strict=True) if split_of == TRAIN}
    held = [index for index, split_of in enumerate(part) if split_of == VALIDATION]
    mapped = few_of_each(held, columns["image_id"], columns["identity"], 1)
    return trained == set(values) and len({values[index] for index in mapped}) > 1
