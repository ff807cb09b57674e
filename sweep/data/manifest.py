"""Manifests: CSV files with the columns path, identity and, where known, gender, view_deg, split and further labels.

A manifest is UTF-8 and separated by commas. Paths start at its folder and are written with '/'. An image's id is its path
without the suffix; where several images differ in nothing but the suffix (`subject01.happy` and `subject01.sad`), each of
them keeps it. So ids depend on no order of the rows, and adding an image changes another's id only where the two names
collide. A column `split` says which images to train on (`train`) and which to hold back (`validation`).
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep.data.alike import folded, look_alike
from sweep.data.decoding import RawImage, decode_with_remarks, is_file
from sweep.data.rows import (
    AT_ONCE,
    Problem,
    Row,
    check_names,
    check_separator,
    not_degrees,
    raise_rows,
    read_rows,
)
from sweep.errors import InputError

KNOWN = ("path", "identity", "gender", "view_deg", "split")
"""Columns with a meaning of their own; every other one is a label."""
SPLITS = ("train", "validation")


def read_manifest(location: str, base: Path, white: float | None) -> Iterator[RawImage]:
    """Yield the images of the manifest at `location`, relative to the folder `base`, in its order."""
    path = base / location
    if not is_file(path):
        raise InputError(f"{path}: no such manifest (dataset.source)")
    columns, rows, problems = read_rows(path)
    _check_columns(path, columns)
    if not rows and not problems:
        raise InputError(f"{path}: lists no images")
    problems += _problems(path.parent, rows)
    raise_rows(path, sorted(problems, key=lambda problem: problem[0]))
    _check_as_a_whole(path, rows)
    labels = [column for column in columns if column not in KNOWN]
    for (line, row), image_id in zip(rows, image_ids([row["path"] for _, row in rows]), strict=True):
        try:
            pixels, remarks = decode_with_remarks(path.parent / row["path"], white)
        except ValueError as error:
            problems.append((line, f"{row['path']} {error}"))
            if len(problems) > AT_ONCE:
                break
            continue
        if Path(row["path"]).is_absolute():
            remarks += ("has an absolute path, so its id, and the study's keys, hold for this machine only",)
        yield RawImage(
            image_id=image_id,
            identity=row["identity"],
            pixels=pixels,
            place=f"{path}: row {line}",
            gender=row.get("gender") or None,
            view_deg=float(row["view_deg"]) if row.get("view_deg") else None,
            labels={column: row[column] or None for column in labels},
            split=row.get("split"),
            remarks=remarks,
        )
    raise_rows(path, problems)


def listed(path: Path) -> list[str]:
    """The paths that a manifest lists, as they are written. Raises InputError where it cannot be read."""
    if not is_file(path):
        raise InputError(f"{path}: no such manifest (dataset.source)")
    columns, rows, _ = read_rows(path)
    _check_columns(path, columns)
    return [row["path"] for _, row in rows]


def image_ids(paths: Sequence[str]) -> list[str]:
    """The id of each path: without its suffix, but with it where ids would collide."""
    whole = [Path(path).as_posix() for path in paths]
    ids = [Path(path).with_suffix("").as_posix() for path in paths]
    while collisions := {name for name, count in Counter(ids).items() if count > 1}:
        kept = [full if name in collisions else name for full, name in zip(whole, ids, strict=True)]
        if kept == ids:
            break  # the same path twice, which is told where it is read
        ids = kept
    return ids


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [column for column in ("path", "identity") if column not in columns]
    if missing:
        check_separator(path, columns, ("path",))
        raise InputError(
            f"{path}: has no column {' and no column '.join(missing)}; found: {', '.join(columns)}"
        )
    check_names(path, columns, KNOWN)


def _problems(folder: Path, rows: Sequence[Row]) -> Iterator[Problem]:
    """What is wrong with single rows, each with its line."""
    seen: dict[str, int] = {}
    for line, row in rows:
        name = row["path"]
        normal = os.path.normpath(name)
        if not name or not is_file(folder / name):
            yield line, f"path: no file '{name}' under {folder}{_hint(folder, name)}"
        elif normal in seen:
            yield line, f"path: '{name}' stands in row {seen[normal]} already"
        seen.setdefault(normal, line)
        if not row["identity"].strip():
            yield line, "identity: is empty"
        for problem in not_degrees(row):
            yield line, problem
        if (part := row.get("split", "train")) not in SPLITS:
            yield line, f"split: '{part}' is neither 'train' nor 'validation'"


def _check_as_a_whole(path: Path, rows: Sequence[Row]) -> None:
    alike = look_alike([row["identity"] for _, row in rows])
    if alike is not None:
        (first, _), (second, other) = (rows[index] for index in alike)
        raise InputError(
            f"{path}: row {second}: identity: '{other['identity']}' looks like the one of row {first} but is written "
            "with other spaces or another Unicode form; write both alike"
        )
    if "split" in rows[0][1]:
        for part in SPLITS:
            if all(row["split"] != part for _, row in rows):
                raise InputError(f"{path}: column split: no row is '{part}'; a study needs both")


def _hint(folder: Path, name: str) -> str:
    """What may be meant by a path that is no file."""
    try:
        if name and (folder / name).is_dir():
            return "; it is a folder"
        slashed = Path(name.replace("\\", "/").strip())
        near = [
            (slashed.parent / other.name).as_posix()
            for other in sorted((folder / slashed).parent.iterdir())
            if folded(other.name) == folded(slashed.name) and other.is_file()
        ]
    except (OSError, ValueError):
        return ""
    if not near:
        return ""
    same = unicodedata.normalize("NFC", near[0]) == unicodedata.normalize("NFC", name)
    return f"; did you mean '{near[0]}'{', which is written in another Unicode form' if same else ''}?"
