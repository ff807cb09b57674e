"""The images of a study: squared, resized, split and selected, ready for any backbone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from sweep.arrays import Array
from sweep.data.alike import look_alike
from sweep.data.notes import notes_of
from sweep.data.sources import read_source
from sweep.errors import InputError
from sweep.keys import key_of, key_of_array
from sweep.storage.schemas import SCHEMAS, with_extra
from sweep.study import Dataset, RelevanceImages

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True)
class Images:
    """All images of a study in a fixed order."""

    table: pa.Table
    """Rows of the table `images`."""
    pixels: Array
    """uint8 RGB, (image, size, size, 3)."""
    keys: tuple[str, ...]
    """Content key of each image as the networks see it."""
    places: tuple[str, ...]
    """Where each image comes from: file and row or index, for messages."""
    notes: tuple[str, ...] = ()
    """What a user should know about them, a line each."""

    @property
    def ids(self) -> list[str]:
        """Image ids in order."""
        return list(self.table["image_id"].to_pylist())

    @property
    def key(self) -> str:
        """Key of the pixels and every label of all images."""
        return key_of(self.keys, self.table.to_pydict())

    @property
    def label_columns(self) -> list[str]:
        """Columns that a task may name."""
        return [name for name in self.table.column_names if name not in _NO_TASK]

    def labels(self, task: str) -> list[str]:
        """Class of each image for `task`.

        Raises InputError where `task` is no column of the images or an image has no value in it.
        """
        if task not in self.label_columns:
            known = ", ".join(self.label_columns)
            raise InputError(f"factors.task: '{task}' is no label of the images; known: {known}")
        values = self.table[task].to_pylist()
        empty = [place for place, value in zip(self.places, values, strict=True) if value is None]
        if empty:
            raise InputError(
                f"factors.task: {empty[0]}: '{task}' is empty, as it is for {len(empty)} of {len(values)} images; "
                "label them or leave them out"
            )
        classes = [str(value) for value in values]
        if (alike := look_alike(classes)) is not None:
            first, second = (self.places[index] for index in alike)
            raise InputError(
                f"factors.task: {second}: '{task}' looks like that of {first} but is written with other spaces or "
                "another Unicode form; write both alike"
            )
        if len(set(classes)) < 2:
            raise InputError(
                f"factors.task: every image has the same '{task}', '{classes[0]}'; nothing to tell apart"
            )
        return classes


_NO_TASK = ("image_id", "split", "height", "width")


def load_images(dataset: Dataset, base: Path) -> Images:
    """Read, square, resize and split the images of a study file in the folder `base`.

    Raises InputError where an image or a label cannot be used.
    """
    size = dataset.input_size
    rows: list[dict[str, Any]] = []
    pixels: list[Array] = []
    places: dict[str, str] = {}
    remarks: dict[str, list[str]] = {}
    for image in read_source(dataset.source, base, dataset.white):
        if image.image_id in places:
            raise InputError(
                f"{image.place}: the name '{image.image_id}' is taken by {places[image.image_id]}"
            )
        places[image.image_id] = image.place
        for remark in image.remarks:
            remarks.setdefault(remark, []).append(image.place)
        pixels.append(squared(image.pixels, size))
        height, width = image.pixels.shape[:2]
        fixed = {"image_id": image.image_id, "identity": image.identity, "gender": image.gender}
        fixed["split"] = image.split
        rows.append(fixed | {"view_deg": image.view_deg, "height": height, "width": width} | image.labels)
    if not rows:
        raise InputError(f"dataset.source: '{dataset.source}' holds no images")
    labels = sorted(set().union(*rows) - set(SCHEMAS["images"].names))
    columns: dict[str, list[Any]] = {
        name: [row.get(name) for row in rows] for name in [*SCHEMAS["images"].names, *labels]
    }
    if None in columns["split"]:
        columns["split"] = _drawn_split(dataset, columns, list(places.values()))
    elif given := sorted(dataset.model_fields_set & {"validation_fraction", "stratify", "split_seed"}):
        raise InputError(
            f"dataset.{given[0]}: the source has a split of its own; leave out {', '.join(given)}, or its column split"
        )
    table = pa.table(columns, schema=with_extra("images", labels))
    return Images(
        table=table,
        pixels=(stacked := np.stack(pixels)),
        keys=(keys := tuple(key_of_array(image) for image in pixels)),
        places=tuple(places.values()),
        notes=notes_of(stacked, keys, columns, tuple(places.values()), remarks),
    )


def _drawn_split(dataset: Dataset, columns: dict[str, list[Any]], places: Sequence[str]) -> list[str]:
    if dataset.stratify not in columns or dataset.stratify in _NO_TASK:
        known = ", ".join(name for name in columns if name not in _NO_TASK)
        raise InputError(f"dataset.stratify: '{dataset.stratify}' is no label of the images; known: {known}")
    _check_alone(columns[dataset.stratify], places, dataset.stratify)
    return split(
        columns["image_id"], columns[dataset.stratify], dataset.validation_fraction, dataset.split_seed
    )


def _check_alone(strata: Sequence[Any], places: Sequence[str], column: str) -> None:
    """A class needs an image to train on and one to hold back."""
    members = Counter(strata)
    alone = [(place, value) for place, value in zip(places, strata, strict=True) if members[value] == 1]
    if alone:
        raise InputError(
            f"dataset: {alone[0][0]}: the only image with {column} '{alone[0][1]}' ({len(alone)} such in all); "
            "a split needs two, one to train on and one to hold back"
        )


def squared(pixels: Array, size: int) -> Array:
    """An image as (size, size, 3) uint8: the shorter side padded with its edge pixels, then antialiased bilinear.

    Padding keeps the proportions of the face; repeating the edge adds no contour that a network could use.
    """
    height, width = pixels.shape[:2]
    side = max(height, width)
    above, left = (side - height) // 2, (side - width) // 2
    padding = [(above, side - height - above), (left, side - width - left)] + [(0, 0)] * (pixels.ndim - 2)
    square = Image.fromarray(np.pad(pixels, padding, mode="edge"))
    resized = np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
    return np.repeat(resized[:, :, None], 3, axis=2) if resized.ndim == 2 else resized


def split(ids: Sequence[str], strata: Sequence[Any], fraction: float, seed: int) -> list[str]:
    """'train' or 'validation' per image: `fraction` of every stratum is held back, up to rounding.

    Within a stratum images are ordered by a hash of their id, so the split depends on no file order.
    Rounding carries over from stratum to stratum, so the total is right as well.
    """
    members: dict[str, list[int]] = {}
    for index, stratum in enumerate(strata):
        members.setdefault(str(stratum), []).append(index)
    assigned = [TRAIN] * len(ids)
    seen = held = 0
    for stratum in sorted(members):
        ordered = sorted(members[stratum], key=lambda index: key_of("split", seed, ids[index]))
        seen += len(ordered)
        due = min(int(seen * fraction + 0.5) - held, len(ordered) - 1)
        for index in ordered[: max(due, 0)]:
            assigned[index] = VALIDATION
        held += max(due, 0)
    return assigned


def select(images: Images, choice: RelevanceImages) -> list[int]:
    """Positions of the images that `choice` names, in image order.

    Raises InputError where a column does not exist, or a value that is wanted has no image: a value that was dropped
    without a word would leave its images out of every result.
    """
    found: dict[tuple[str, str], set[int]] = {}
    problems: list[str] = []
    for column, wanted in choice.where.items():
        place = f"relevance.images.where.{column}"
        try:
            own = _positions(images, column, wanted if isinstance(wanted, list) else [wanted])
        except ValueError as problem:
            problems.append(f"{place}: {problem}")
            continue
        found |= {(column, value): positions for value, positions in own.items()}
        absent = [value for value, positions in own.items() if not positions]
        if absent:
            there = _listed(_values(images, column))
            problems.append(f"{place}: selects no image with {_listed(absent)}; there are: {there}")
    if problems:
        raise InputError(*problems)
    kept = set(range(len(images.ids)))
    for column in choice.where:
        kept &= set().union(*(positions for (name, _), positions in found.items() if name == column))
    problems = [
        f"relevance.images.where.{column}: selects no image with {value} that meets the other conditions"
        for (column, value), positions in found.items()
        if not positions & kept
    ]
    if problems:
        raise InputError(*problems)
    if choice.per_identity is not None:
        identities = images.table["identity"].to_pylist()
        return few_of_each(sorted(kept), images.ids, identities, choice.per_identity)
    return sorted(kept)


def few_of_each(
    positions: Sequence[int], ids: Sequence[str], identities: Sequence[str], most: int
) -> list[int]:
    """Of some positions at most so many of each identity, chosen by a hash of the image's id."""
    by_identity: dict[str, list[int]] = {}
    for index in sorted(positions, key=lambda index: key_of("relevance image", ids[index])):
        by_identity.setdefault(identities[index], []).append(index)
    return sorted(index for group in by_identity.values() for index in group[:most])


def _positions(images: Images, column: str, wanted: Sequence[str | int | float]) -> dict[str, set[int]]:
    """Positions of the images that have each of the `wanted` values, by the value as messages show it."""
    if column not in images.table.column_names:
        known = ", ".join(images.table.column_names)
        raise ValueError(f"'{column}' is no column of the images; known: {known}")
    by_value: dict[str, set[int]] = {value: set() for value in _values(images, column)}
    for index, value in enumerate(images.table[column].to_pylist()):
        if value is not None:
            by_value[_shown(value)].add(index)
    if pa.types.is_string(images.table.schema.field(column).type):
        shown = [_label(value, list(by_value)) for value in wanted]
    else:
        shown = [_shown(_number(value)) for value in wanted]
    return {value: by_value.get(value, set()) for value in shown}


def _values(images: Images, column: str) -> list[str]:
    """What a column holds, as messages show it, in order."""
    return [_shown(value) for value in sorted(set(images.table[column].drop_null().to_pylist()))]


def _shown(value: str | float) -> str:
    """A value that tells it from all others: text in quotes; numbers as precise as the table keeps them (float32)."""
    if isinstance(value, str):
        return f"'{value}'"
    with np.errstate(over="ignore"):
        return str(np.float32(value) + np.float32(0)).removesuffix(".0")  # -0 is 0


def _label(value: str | float, known: Sequence[str]) -> str:
    """A wanted label as `_shown`. A number stands for its digits, unless a label spells the same number otherwise."""
    if isinstance(value, float):
        spelt = [label for label in known if label != f"'{value}'" and _spells(label[1:-1], value)]
        if spelt:
            raise ValueError(f"labels are text; put the one that is meant in quotes, as in {_listed(spelt)}")
    return f"'{value}'"


def _spells(label: str, number: float) -> bool:
    try:
        return float(label) == number
    except ValueError:
        return False


def _number(value: str | float) -> float:
    try:
        if "_" not in str(value):  # which Python would skip
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"must be a number or a list of numbers, not {value!r}")


def _listed(values: Sequence[str], most: int = 12) -> str:
    more = f", ... ({len(values)} in all)" if len(values) > most else ""
    return ", ".join(values[:most]) + more
