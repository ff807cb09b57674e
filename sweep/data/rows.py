"""CSV files as rows that know their line: what manifests and labels beside folders have in common.

Such a file is UTF-8 and separated by commas.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep.errors import InputError
from sweep.study.names import folded, taken

LARGEST = 1e38
"""The table `images` holds angles as float32, which has no larger numbers."""
AT_ONCE = 20
"""Problems that are listed; the rest are counted."""

Row = tuple[int, dict[str, str]]
"""The line on which a row begins, as an editor counts, and its cells by column."""
Problem = tuple[int, str]
"""The line of a row, and what is wrong with it."""


def read_rows(path: Path) -> tuple[list[str], list[Row], list[Problem]]:
    """The columns of a CSV file, its rows, and a problem for every row that has more or fewer cells than the header.

    Raises InputError where the file cannot be read.
    """
    columns, lines = _table(path)
    rows: list[Row] = []
    problems: list[Problem] = []
    for line, cells in lines:
        if len(cells) == len(columns):
            rows.append((line, dict(zip(columns, cells, strict=True))))
        else:
            kind = "more" if len(cells) > len(columns) else "fewer"
            problems.append((line, f"has {kind} cells than the header"))
    return columns, rows, problems


def check_separator(path: Path, columns: Sequence[str], expected: Sequence[str]) -> None:
    """Raise InputError where the header holds one of the `expected` columns, but something else than commas between them."""
    for mark, name in {";": "semicolons", "\t": "tabs", "|": "'|'"}.items():
        parts = {part.strip() for part in ",".join(columns).split(mark)}
        if len(parts) > 1 and parts & set(expected):
            raise InputError(f"{path}: its columns are separated by {name}; separate them by commas")


def check_names(path: Path, columns: Sequence[str], known: Sequence[str]) -> None:
    """Raise InputError where a column stands twice, has no name, or has one that the tables need themselves.

    `known` are the columns with a meaning of their own; every other one is a label.
    """
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: names a column twice: {', '.join(columns)}")
    labels = [column for column in columns if column not in known]
    problems = [
        f"{path}: column {name or 'without a name'}: {why}" for name, why in _bad_columns(labels, known)
    ]
    if problems:
        raise InputError(*problems)


def not_degrees(row: dict[str, str]) -> Iterator[str]:
    """What is wrong with the angle in a row, if it has one."""
    if (angle := row.get("view_deg")) and not _is_number(angle):
        yield f"view_deg: '{angle}' is no number of degrees"


def raise_rows(path: Path, problems: Sequence[Problem]) -> None:
    """Raise InputError with a line for each problem of the file at `path`, if there are any."""
    raise_lines([f"{path}: row {line}: {problem}" for line, problem in problems])


def raise_lines(lines: Sequence[str]) -> None:
    """Raise InputError with these lines, if there are any; of many only the first, and how many more."""
    if lines:
        more = len(lines) - AT_ONCE
        raise InputError(*lines[:AT_ONCE], *([f"... and {more} more"] if more > 0 else []))


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


def _bad_columns(labels: Sequence[str], known: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each label column whose name another column has or could be taken for, and what is wrong with it."""
    for label in labels:
        if not label.strip():
            yield label, "has no name in the header; name it, or remove its comma"
        elif folded(label) in known:
            yield label, f"write it '{folded(label)}', or rename it"
    yield from taken(label for label in labels if label.strip() and folded(label) not in known)


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= LARGEST and "_" not in text
    except ValueError:
        return False
