"""Manifests: CSV files with the columns path, identity and, where known, gender, view_deg, split and further labels.

A manifest is UTF-8 and separated by commas. Paths start at its folder and are written with '/'. An image's id is its path
without the suffix; where several images differ in nothing but the suffix (`subject01.happy` and `subject01.sad`), each of
them keeps it. So ids depend on no order of the rows, and adding an image changes another's id only where the two names
collide. A column `split` says which images to train on (`train`) and which to hold back (`validation`).
"""

import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep.data.alike import folded, look_alike
from sweep.data.decoding import RawImage, decode_with_remarks, is_file
from sweep.errors import InputError
from sweep.study.names import folded as case_folded
from sweep.study.names import taken

KNOWN = ("path", "identity", "gender", "view_deg", "split")
"""Columns with a meaning of their own; every other one is a label."""
SPLITS = ("train", "validation")
LARGEST = 1e38
"""The table `images` holds angles as float32, which has no larger numbers."""
AT_ONCE = 20
"""Problems that are listed; the rest are counted."""

Row = tuple[int, dict[str, str]]
"""The line on which a row begins, as an editor counts, and its cells by column."""


def read_manifest(location: str, base: Path, white: float | None) -> Iterator[RawImage]:
    """Yield the images of the manifest at `location`, relative to the folder `base`, in its order."""
    path = base / location
    if not is_file(path):
        raise InputError(f"{path}: no such manifest (dataset.source)")
    columns, lines = _table(path)
    _check_columns(path, columns)
    if not lines:
        raise InputError(f"{path}: lists no images")
    rows: list[Row] = []
    problems: list[tuple[int, str]] = []
    for line, cells in lines:
        if len(cells) == len(columns):
            rows.append((line, dict(zip(columns, cells, strict=True))))
        else:
            kind = "more" if len(cells) > len(columns) else "fewer"
            problems.append((line, f"has {kind} cells than the header"))
    problems += _problems(path.parent, rows)
    _raise(path, sorted(problems, key=lambda problem: problem[0]))
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
    _raise(path, problems)


def listed(path: Path) -> list[str]:
    """The paths that a manifest lists, as they are written. Raises InputError where it cannot be read."""
    if not is_file(path):
        raise InputError(f"{path}: no such manifest (dataset.source)")
    columns, lines = _table(path)
    _check_columns(path, columns)
    place = columns.index("path")
    return [cells[place] for _, cells in lines if len(cells) > place]


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


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the line on which each row begins with its cells."""
    rows: list[tuple[int, list[str]]] = []
    begin = 1
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                rows.append((begin, cells))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}: row {begin}: cannot be read as CSV: {error}") from None
    return (rows[0][1], rows[1:]) if rows else ([], [])


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content:
        raise InputError(f"{path}: cannot be read as CSV: it is UTF-16 or no text; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: row {row}: cannot be read as CSV: not UTF-8; save it as UTF-8") from None


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [column for column in ("path", "identity") if column not in columns]
    if missing:
        for mark, name in {";": "semicolons", "\t": "tabs", "|": "'|'"}.items():
            if "path" in (part.strip() for part in ",".join(columns).split(mark)):
                raise InputError(f"{path}: its columns are separated by {name}; separate them by commas")
        raise InputError(
            f"{path}: has no column {' and no column '.join(missing)}; found: {', '.join(columns)}"
        )
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: names a column twice: {', '.join(columns)}")
    labels = [column for column in columns if column not in KNOWN]
    problems = [f"{path}: column {name or 'without a name'}: {why}" for name, why in _bad_columns(labels)]
    if problems:
        raise InputError(*problems)


def _bad_columns(labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each label column whose name another column has or could be taken for, and what is wrong with it."""
    for label in labels:
        if not label.strip():
            yield label, "has no name in the header; name it, or remove its comma"
        elif case_folded(label) in KNOWN:
            yield label, f"write it '{case_folded(label)}', or rename it"
    yield from taken(label for label in labels if label.strip() and case_folded(label) not in KNOWN)


def _problems(folder: Path, rows: Sequence[Row]) -> Iterator[tuple[int, str]]:
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
        if (angle := row.get("view_deg")) and not _is_number(angle):
            yield line, f"view_deg: '{angle}' is no number of degrees"
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


def _raise(path: Path, problems: Sequence[tuple[int, str]]) -> None:
    if problems:
        lines = [f"{path}: row {line}: {problem}" for line, problem in problems[:AT_ONCE]]
        more = len(problems) - AT_ONCE
        raise InputError(*lines, *([f"... and {more} more"] if more > 0 else []))


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= LARGEST and "_" not in text
    except ValueError:
        return False


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
