"""Folders of pictures: one folder per person, whose name is the identity.

    faces/anna/1.jpg            or, with a split,       faces/train/anna/1.jpg
    faces/ben/1.jpg                                     faces/validation/anna/2.jpg
    faces/labels.csv                                    faces/labels.csv

Beside `train` stands one folder `validation`, `val` or `test`. `labels.csv` is optional. It has a column `identity`, for
labels of a person, or `path`, for labels of a picture; its other columns are labels, as in a manifest. An image's id is its
path inside the folder, made as a manifest makes it. The order is that of the names. Names are taken in their composed
Unicode form, so ids are the same on every system.

Links are followed; as pictures lie at one depth only, no link can lead in a circle. What a system or a program leaves
behind is passed over: names that begin with a dot, and `JUNK`. Everything else that is no picture is told, because a
picture that is left out without a word would be missed by nobody.
"""

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sweep.data.alike import folded, look_alike
from sweep.data.decoding import RawImage, decode_with_remarks
from sweep.data.manifest import image_ids
from sweep.data.rows import (
    AT_ONCE,
    check_names,
    check_separator,
    not_degrees,
    raise_lines,
    raise_rows,
    read_rows,
)
from sweep.errors import InputError

LABELS = "labels.csv"
JUNK = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"})
"""Files and folders that systems leave among pictures, in lower case."""
TRAIN = "train"
HELD_BACK = ("validation", "val", "test")
"""What the folder beside `train` may be called."""


@dataclass(frozen=True)
class _Picture:
    """A file in the folder of a person."""

    path: Path
    name: str
    """Its path inside the folder of all pictures, with '/'."""
    identity: str
    split: str | None


@dataclass(frozen=True)
class _Labels:
    """What `labels.csv` says."""

    key: str = "identity"
    """The column that says what a row is about: identity or path."""
    columns: tuple[str, ...] = ()
    """The labels that have no meaning of their own."""
    rows: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Cells by identity or path."""

    def of(self, picture: _Picture) -> Mapping[str, str]:
        """The cells of a picture, or of its person."""
        return self.rows.get(picture.identity if self.key == "identity" else picture.name, {})


def read_folder(location: str, base: Path, white: float | None) -> Iterator[RawImage]:
    """Yield the pictures of the folder at `location`, relative to the folder `base`, in the order of their names."""
    folder = base / location
    if not folder.is_dir():
        why = "is a file; name a folder of pictures" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {why} (dataset.source)")
    problems: list[str] = []
    pictures = list(_pictures(folder, problems))
    raise_lines(problems)
    labels = _labels(folder / LABELS, pictures)
    for picture, image_id in zip(pictures, image_ids([one.name for one in pictures]), strict=True):
        try:
            pixels, remarks = decode_with_remarks(picture.path, white)
        except ValueError as error:
            problems.append(
                f"{picture.path} {error}; save it as PNG or JPEG, or move it away if it is no picture"
            )
            if len(problems) > AT_ONCE:
                break
            continue
        cells = labels.of(picture)
        yield RawImage(
            image_id=image_id,
            identity=picture.identity,
            pixels=pixels,
            place=str(picture.path),
            gender=cells.get("gender") or None,
            view_deg=float(cells["view_deg"]) if cells.get("view_deg") else None,
            labels={column: cells.get(column) or None for column in labels.columns},
            split=picture.split,
            remarks=remarks,
        )
    raise_lines(problems)


def files_of_folder(location: str, base: Path) -> list[str]:
    """Paths of a folder's pictures and of its labels, as `location` begins. Raises InputError where it cannot be read."""
    folder, problems = base / location, list[str]()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder (dataset.source)")
    names = [one.path.relative_to(folder) for one in _pictures(folder, problems)]
    raise_lines(problems)
    labels = [Path(LABELS)] if (folder / LABELS).exists() else []
    return [str(Path(location) / name) for name in [*names, *labels]]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _entries(folder: Path, problems: list[str]) -> tuple[list[Path], list[Path]]:
    """The folders in a folder, and what else is in it, in the order of their names and without what is passed over."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - only the names are needed
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}; allow it") from None
    kept = []
    for name in sorted(names, key=lambda name: (_composed(name), name)):
        if name.startswith(".") or name.casefold() in JUNK:
            continue
        try:
            name.encode()
        except UnicodeEncodeError:
            problems.append(f"{folder}: the name {os.fsencode(name)!r} in it is not UTF-8; rename it")
            continue
        kept.append(folder / name)
    return [path for path in kept if path.is_dir()], [path for path in kept if not path.is_dir()]


def _pictures(folder: Path, problems: list[str]) -> Iterator[_Picture]:
    """Every file in the folder of a person; what lies elsewhere is added to `problems`."""
    found, files = _entries(folder, problems)
    if not found:
        raise InputError(
            f"{folder}: holds no folders; make one for each person, named after the person, with the pictures in it"
        )
    _strays([path for path in files if path.name != LABELS], problems)
    parts = _parts(folder, found)
    people: list[tuple[str | None, str, Path]] = [] if parts else [(None, "", person) for person in found]
    for name, part in parts:
        persons, files = _entries(part, problems)
        _strays(files, problems)
        if not persons:
            problems.append(f"{part}: holds no folders; make one for each person, with the pictures in it")
        people += [(name, f"{part.name}/", person) for person in persons]
    _check_persons([person for _, _, person in people])
    for split, prefix, person in people:
        identity = _composed(person.name)
        for path in _files(person, problems):
            yield _Picture(path, f"{prefix}{identity}/{_composed(path.name)}", identity, split)


def _strays(files: Sequence[Path], problems: list[str]) -> None:
    for path in files:
        where = f"beside '{TRAIN}'" if path.name == LABELS else "into the folder of its person, or away"
        problems.append(f"{path}: lies in no person's folder; move it {where}")


def _parts(folder: Path, found: Sequence[Path]) -> list[tuple[str, Path]]:
    """The two folders of a split, each with the split's name; none where the folders `found` are persons."""
    by_name = {path.name.casefold(): path for path in found}
    beside = [path for path in found if path.name.casefold() in HELD_BACK]
    if TRAIN not in by_name and len(beside) < len(found):
        return []
    if TRAIN in by_name and len(beside) == 1 and len(found) == 2:
        return [(TRAIN, by_name[TRAIN]), ("validation", beside[0])]
    listed = ", ".join(path.name for path in found[:AT_ONCE])
    raise InputError(
        f"{folder}: a split is a folder '{TRAIN}' and one folder '{HELD_BACK[0]}', '{HELD_BACK[1]}' or '{HELD_BACK[2]}', with "
        f"the persons' folders in both and nothing beside them; found: {listed}. Leave the others out, or rename those "
        "that are persons"
    )


def _check_persons(persons: Sequence[Path]) -> None:
    for person in persons:
        if not person.name.strip():
            raise InputError(f"{person}: its name is blank; give it the name of its person")
    names = [person.name for person in persons]
    if (alike := look_alike(names)) is not None:
        first, second = (persons[index] for index in alike)
        raise InputError(
            f"{second}: its name looks like that of {first} but is written with other spaces or in another Unicode form; "
            "write both alike, or put the pictures into one"
        )


def _files(person: Path, problems: list[str]) -> Iterator[Path]:
    folders, files = _entries(person, problems)
    if folders and not files:
        problems.append(
            f"{person}: holds folders and no pictures; move the pictures up into it, or name it as the source if these folders "
            "are the persons"
        )
    elif folders:
        problems.append(
            f"{folders[0]}: is a folder inside a person's folder; move its pictures up, or it away"
        )
    elif not files:
        problems.append(f"{person}: holds no pictures; put some into it, or remove it")
    for path in files:
        # A pipe would be waited for, and a broken link is no picture that was meant to be left out.
        if path.is_file():
            yield path
        else:
            problems.append(f"{path}: is no file that can be read; mend or remove it")


def _labels(path: Path, pictures: Sequence[_Picture]) -> _Labels:
    """The labels beside the folders, if there are any. Raises InputError with a line per problem."""
    if not path.exists():
        return _Labels()
    columns, rows, problems = read_rows(path)
    keys = [column for column in ("identity", "path") if column in columns]
    if not keys:
        check_separator(path, columns, ("identity", "path"))
        raise InputError(
            f"{path}: needs a column identity, for labels of a person, or path, for labels of a picture; "
            f"found: {', '.join(columns)}"
        )
    if len(keys) == 2:
        raise InputError(
            f"{path}: has the columns identity and path; the folders say who is who, so remove identity"
        )
    if "split" in columns:
        raise InputError(
            f"{path}: column split: a folder is split by the folders '{TRAIN}' and '{HELD_BACK[0]}' in it; remove the column"
        )
    (key,) = keys
    check_names(path, columns, (key, "gender", "view_deg"))
    known = {picture.identity if key == "identity" else picture.name for picture in pictures}
    seen: dict[str, int] = {}
    by_key: dict[str, Mapping[str, str]] = {}
    for line, row in rows:
        name = _composed(row[key] if key == "identity" else PurePosixPath(row[key]).as_posix())
        if name not in known:
            problems.append((line, f"{key}: {_unknown(key, row[key], path.parent, known)}"))
        elif name in seen:
            problems.append((line, f"{key}: '{name}' stands in row {seen[name]} already"))
        problems += [(line, why) for why in not_degrees(row)]
        seen.setdefault(name, line)
        by_key[name] = row
    raise_rows(path, sorted(problems, key=lambda problem: problem[0]))
    labels = tuple(column for column in columns if column not in (key, "gender", "view_deg"))
    return _Labels(key, labels, by_key)


def _unknown(key: str, name: str, folder: Path, known: set[str]) -> str:
    """That there is nothing called `name`, and what may be meant."""
    what = "folder of a person" if key == "identity" else "picture"
    near = sorted(one for one in known if folded(one) == folded(name.replace("\\", "/")))
    remedy = f"did you mean '{near[0]}'?" if near else "remove the row"
    return f"no {what} '{name}' in {folder}; {remedy}"
