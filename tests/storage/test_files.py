"""Roots under which no files can be: told at once, not after the patience for a store that refuses for a while."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.errors import InputError, StoreError
from sweep.storage.files import Files


def a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file"


def below_a_file(folder: Path) -> Path:
    return a_file(folder) / "results"


def links_in_a_circle(folder: Path) -> Path:
    (folder / "one").symlink_to(folder / "other")
    (folder / "other").symlink_to(folder / "one")
    return folder / "one"


def a_long_name(folder: Path) -> Path:
    return folder / ("x" * 300)


def a_long_path(folder: Path) -> Path:
    return folder.joinpath(*["x" * 200] * 19)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (a_file, "file is a file, not a folder"),
        (below_a_file, "file is a file, not a folder"),
        (links_in_a_circle, "is a file, not a folder|[Ss]ymlink loop"),
        (a_long_name, "file name too long"),
        (a_long_path, "name a folder with a shorter path"),
    ],
)
def test_no_folder(tmp_path: Path, make: Callable[[Path], Path], problem: str) -> None:
    root = make(tmp_path)
    with pytest.raises(InputError, match=problem):
        Files(str(root))


def test_links_to_folders_and_odd_names_simply_work(tmp_path: Path) -> None:
    name = "a b [1] 50%20 #?*'\"é\\"
    (tmp_path / "link").symlink_to(tmp_path / name)
    files = Files(f"{tmp_path}/link/")
    files.check_writable()
    files.create()
    files.write("table/unit", b"rows")
    for root in (str(tmp_path / name), f"{tmp_path}/link", (tmp_path / name).as_uri()):
        assert Files(root).read("table/unit") == b"rows"
        assert Files(root).names("table") == ["unit"]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    # What is closed to others is open to the superuser, but for what the system keeps.
    root = closed if os.geteuid() else Path("/proc/1")
    with pytest.raises(
        InputError, match="cannot be written to; change its permissions, or name another folder"
    ):
        Files(f"{root}/results").check_writable()
    assert not any(closed.iterdir())


def test_a_name_that_is_too_long_is_not_waited_for(tmp_path: Path) -> None:
    files, began = Files(str(tmp_path), patience=60), time.monotonic()
    with pytest.raises(StoreError, match="File name too long"):
        files.write(f"{'x' * 300}", b"")
    assert time.monotonic() - began < 10
