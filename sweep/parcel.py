"""What of a study travels to another machine: its file, and the images and weights that it names by relative paths.

They keep their places relative to each other, so the study file holds there as it stands. What it names by an absolute
path is not taken along: it is meant to be at that path on the other machine.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sweep.data.decoding import is_file
from sweep.data.sources import files_of_source
from sweep.errors import InputError
from sweep.models.weights import file_of_weights
from sweep.study import Study

FOLDER = "submitted"
"""The one folder at the top of a parcel: Python looks for modules beside it, and finds none of the user's."""
LARGEST = 500_000_000
"""Bytes that may travel: Ray keeps them in its head's memory, and takes half a gigabyte."""


@dataclass(frozen=True)
class Parcel:
    """A study file and what goes with it."""

    study: str
    """Path of the study file inside the parcel."""
    files: Mapping[str, Path]
    """Every file, by its path inside the parcel."""
    elsewhere: tuple[str, ...]
    """Absolute paths that the study names."""

    @property
    def others(self) -> Mapping[str, Path]:
        """The files without the study's."""
        return {inside: path for inside, path in self.files.items() if inside != self.study}

    def unpack(self, folder: Path, *, study_only: bool = False) -> None:
        """Lay copies of the files into `folder`, in their places."""
        for inside, path in self.files.items():
            if study_only and inside != self.study:
                continue
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def pack(study: Study, most: float = LARGEST) -> Parcel:
    """Find what a study takes along.

    Raises InputError, a line for each file that is not there, or where all together have over `most` bytes.
    """
    base = Path(os.path.abspath(study.path.parent))  # noqa: PTH100 - resolving links would move what lies behind ..
    named: list[tuple[str, str]] = []
    problems: list[str] = []
    for level, (pretraining, _) in study.backbones().items():
        if location := file_of_weights(pretraining):
            named.append((f"factors.pretraining.{level}", location))
    try:
        named += [("dataset.source", location) for location in files_of_source(study.dataset.source, base)]
    except InputError as error:
        problems += [f"{study.path}: {problem}" for problem in error.problems]
    paths = [base / study.path.name]
    elsewhere: list[str] = []
    for place, location in named:
        if Path(location).is_absolute():
            elsewhere.append(location)
        elif is_file(base / location):
            paths.append(Path(os.path.normpath(base / location)))
        else:
            problems.append(f"{study.path}: {place}: no file {base / location}")
    if problems:
        raise InputError(*problems)
    size = sum(path.stat().st_size for path in set(paths))
    if size > most:
        raise InputError(
            f"{study.path}: the files that it names by relative paths have {size / 1e6:,.0f} MB, and {most / 1e6:,.0f} can "
            "be sent; take a bucket for --results, or put the large ones where the cluster's head sees them, and name them by "
            "their absolute paths there"
        )
    top = os.path.commonpath([path.parent for path in paths])
    inside = {path: f"{FOLDER}/{path.relative_to(top).as_posix()}" for path in paths}
    return Parcel(inside[paths[0]], {name: path for path, name in inside.items()}, tuple(elsewhere))
