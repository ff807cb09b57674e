"""Folders of pictures as people have them: read right, or refused in lines that name the file."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sweep.data.folder import read_folder
from sweep.data.images import Images, load_images
from sweep.errors import InputError
from sweep.study import Dataset
from tests.studies import sweep


def pictures(folder: Path, *names: str) -> None:
    """Pictures that all differ, as PNG whatever their name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(list(os.fsencode(name))).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(path, "PNG")


def loaded(folder: Path) -> Images:
    return load_images(Dataset(source=f"folder:{folder.name}", input_size=32), folder.parent)


def refused(folder: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        loaded(folder)
    return [problem.removeprefix(f"{folder}") for problem in caught.value.problems]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Two persons with two pictures each."""
    pictures(tmp_path / "faces", "ben/2.png", "ben/1.png", "anna/b.png", "anna/a.png")
    return tmp_path / "faces"


def test_the_folders_are_the_persons_and_the_names_the_order(faces: Path) -> None:
    images = loaded(faces)
    assert images.ids == ["anna/a", "anna/b", "ben/1", "ben/2"]
    assert images.table["identity"].to_pylist() == ["anna", "anna", "ben", "ben"]
    assert images.places[0] == str(faces / "anna" / "a.png")
    pixels = np.asarray(Image.open(faces / "ben" / "2.png").resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images.pixels[3, :, :, 0], pixels)


def test_the_order_is_not_that_of_the_file_system(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listdir
    before = loaded(faces).key
    for order in (sorted, lambda names: sorted(names, reverse=True)):
        monkeypatch.setattr(os, "listdir", lambda path, order=order: order(listed(path)))
        assert loaded(faces).key == before


def test_files_told_apart_by_their_suffix_are_distinct(faces: Path) -> None:
    pictures(faces, "anna/a.jpg", "ben/subject.happy", "ben/subject.sad")
    assert loaded(faces).ids == [
        "anna/a.jpg",
        "anna/a.png",
        "anna/b",
        "ben/1",
        "ben/2",
        "ben/subject.happy",
        "ben/subject.sad",
    ]


@pytest.mark.parametrize("held_back", ["validation", "val", "test", "Test"])
def test_train_and_a_folder_held_back_are_the_split(tmp_path: Path, held_back: str) -> None:
    faces = tmp_path / "faces"
    pictures(
        faces, "train/anna/1.png", f"{held_back}/anna/1.png", "train/ben/1.png", f"{held_back}/ben/1.png"
    )
    images = loaded(faces)
    names = ["train/anna/1", "train/ben/1", f"{held_back}/anna/1", f"{held_back}/ben/1"]
    assert images.ids == names
    assert images.table["split"].to_pylist() == ["train", "train", "validation", "validation"]
    assert images.table["identity"].to_pylist() == ["anna", "ben"] * 2


@pytest.mark.parametrize("lone", ["val", "test", "validation"])
def test_without_train_such_a_name_is_a_person(faces: Path, lone: str) -> None:
    pictures(faces, f"{lone}/1.png", f"{lone}/2.png")
    assert set(loaded(faces).table["identity"].to_pylist()) == {"anna", "ben", lone}


@pytest.mark.parametrize(
    "names",
    [
        ["train"],
        ["val", "test"],
        ["train", "val", "test"],
        ["train", "anna"],
        ["train", "val", "anna"],
        ["val"],
    ],
)
def test_half_a_split_is_refused(tmp_path: Path, names: list[str]) -> None:
    pictures(tmp_path / "faces", *(f"{name}/anna/1.png" for name in names))
    (line,) = refused(tmp_path / "faces")
    assert line.startswith(": a split is a folder 'train' and one folder 'validation', 'val' or 'test'")
    assert f"found: {', '.join(sorted(names))}. " in line


def test_labels_of_persons(faces: Path) -> None:
    (faces / "labels.csv").write_text("identity,gender,hair\nben,male,\nanna,female,dark\n")
    table = loaded(faces).table
    assert table["gender"].to_pylist() == ["female", "female", "male", "male"]
    assert table["hair"].to_pylist() == ["dark", "dark", None, None]


def test_labels_of_pictures_need_not_name_all(faces: Path) -> None:
    (faces / "labels.csv").write_text("path,view_deg,glasses\nben/1.png,-30,yes\n./anna/b.png,0,no\n")
    table = loaded(faces).table
    assert table["view_deg"].to_pylist() == [None, 0, -30, None]
    assert table["glasses"].to_pylist() == [None, "no", "yes", None]


def test_labels_stand_beside_a_split(tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    pictures(faces, "train/anna/1.png", "val/anna/1.png", "train/ben/1.png")
    (faces / "labels.csv").write_text("identity,gender\nanna,female\nben,male\n")
    assert loaded(faces).table["gender"].to_pylist() == ["female", "male", "female"]
    (faces / "labels.csv").rename(faces / "train" / "labels.csv")
    assert refused(faces) == ["/train/labels.csv: lies in no person's folder; move it beside 'train'"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("identity,gender\nAnna,f\n", "row 2: identity: no folder of a person 'Anna' in"),
        ("identity,gender\nAnna,f\n", "; did you mean 'anna'?"),
        ("identity,gender\ncarl,m\n", "; remove the row"),
        ("path,gender\nben\\1.png,m\n", "; did you mean 'ben/1.png'?"),
        ("identity,gender\nanna,f\nben,m\nanna,f\n", "row 4: identity: 'anna' stands in row 2 already"),
        ("path,gender\nben/1.png,m\n./ben/1.png,m\n", "row 3: path: 'ben/1.png' stands in row 2 already"),
        ("identity,view_deg\nanna,left\n", "row 2: view_deg: 'left' is no number of degrees"),
        ("identity,gender\nanna\n", "row 2: has fewer cells than the header"),
        ("name,gender\nanna,f\n", "needs a column identity, for labels of a person, or path"),
        ("", "needs a column identity"),
        ("identity;gender\nanna;f\n", "its columns are separated by semicolons; separate them by commas"),
        ("path,identity\nben/1.png,ben\n", "the folders say who is who, so remove identity"),
        ("path,split\nben/1.png,train\n", "column split: a folder is split by the folders 'train' and"),
        ("identity,Gender\nanna,f\n", "column Gender: write it 'gender', or rename it"),
        ("identity,height\nanna,5\n", "column height: the study makes a column of that name itself"),
        ("identity,hair,hair\nanna,a,b\n", "names a column twice"),
    ],
)
def test_wrong_labels_are_one_line(faces: Path, content: str, expected: str) -> None:
    (faces / "labels.csv").write_text(content)
    (line,) = refused(faces)
    assert line.startswith("/labels.csv: ")
    assert expected in line


def test_what_systems_leave_behind_is_passed_over(faces: Path) -> None:
    before = loaded(faces).key
    for junk in (".DS_Store", "Thumbs.db", "desktop.ini", "anna/.DS_Store", "ben/thumbs.db", "anna/._a.png"):
        (faces / junk).write_bytes(b"no picture")
    for junk in (".thumbnails", "__MACOSX", "anna/@eaDir"):
        (faces / junk).mkdir()
        (faces / junk / "1.png").write_bytes(b"no picture")
    assert loaded(faces).key == before


def loose(faces: Path) -> None:
    pictures(faces, "1.png")


def deep(faces: Path) -> None:
    pictures(faces, "anna/2020/1.png")


def too_deep(faces: Path) -> None:
    pictures(faces, "more/carl/1.png")


def empty(faces: Path) -> None:
    (faces / "carl").mkdir()
    (faces / "carl" / ".DS_Store").touch()


def notes(faces: Path) -> None:
    (faces / "anna" / "notes.txt").write_text("no picture")


def broken_link(faces: Path) -> None:
    (faces / "anna" / "c.png").symlink_to(faces / "gone.png")


def pipe(faces: Path) -> None:
    os.mkfifo(faces / "anna" / "c.png")


def blank(faces: Path) -> None:
    pictures(faces, " /1.png")


def nearly_the_same(faces: Path) -> None:
    pictures(faces, "anna /1.png")


def two_forms(faces: Path) -> None:
    pictures(faces, "zoé/1.png", f"{unicodedata.normalize('NFD', 'zoé')}/1.png")


def alone(faces: Path) -> None:
    pictures(faces, "carl/1.png")


@pytest.mark.parametrize(
    ("spoil", "place", "expected"),
    [
        (loose, "/1.png: ", "lies in no person's folder; move it into the folder of its person, or away"),
        (deep, "/anna/2020: ", "is a folder inside a person's folder; move its pictures up"),
        (
            too_deep,
            "/more: ",
            "holds folders and no pictures; move the pictures up into it, or name it as the source",
        ),
        (empty, "/carl: ", "holds no pictures; put some into it, or remove it"),
        (notes, "/anna/notes.txt ", "cannot be decoded: "),
        (broken_link, "/anna/c.png: ", "is no file that can be read; mend or remove it"),
        (pipe, "/anna/c.png: ", "is no file that can be read"),
        (blank, "/ : ", "its name is blank; give it the name of its person"),
        (nearly_the_same, "/anna : ", "its name looks like that of"),
        (two_forms, "/zo", "in another Unicode form; write both alike, or put the pictures into one"),
        (alone, "dataset: ", "the only image with identity 'carl'"),
    ],
)
def test_what_is_no_picture_of_a_person_is_one_line(
    faces: Path, spoil: Callable[[Path], None], place: str, expected: str
) -> None:
    spoil(faces)
    (line,) = refused(faces)
    assert line.startswith(place)
    assert expected in line


def test_a_name_that_is_no_text_is_one_line(faces: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    pictures(faces, f"anna/{name}")
    assert refused(faces) == [r"/anna: the name b'\xff.png' in it is not UTF-8; rename it"]


def test_every_problem_is_told_at_once(faces: Path) -> None:
    for spoil in (loose, deep, empty, broken_link):
        spoil(faces)
    assert [line.split(":")[0] for line in refused(faces)] == ["/1.png", "/anna/2020", "/anna/c.png", "/carl"]
    many = [f"anna/{index:02d}.txt" for index in range(30)]
    for name in many:
        (faces / name).write_text("no picture")
    (faces / "1.png").unlink()
    (faces / "anna" / "2020" / "1.png").unlink()
    (faces / "anna" / "2020").rmdir()
    (faces / "anna" / "c.png").unlink()
    pictures(faces, "carl/1.png")
    lines = refused(faces)
    assert len(lines) == 21
    assert lines[-1] == "... and 1 more"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["1.png", "2.png"], ": holds no folders; make one for each person, named after the person"),
        (["train/1.png", "val/anna/1.png"], "/train/1.png: lies in no person's folder"),
    ],
)
def test_pictures_without_persons_are_refused(tmp_path: Path, names: list[str], expected: str) -> None:
    pictures(tmp_path / "faces", *names)
    assert refused(tmp_path / "faces")[0].startswith(expected)


def test_a_source_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused(tmp_path / "file") == [": is a file; name a folder of pictures (dataset.source)"]
    assert refused(tmp_path / "nowhere") == [": no such folder (dataset.source)"]


def test_links_are_followed(faces: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "elsewhere", "1.png", "2.png")
    (faces / "carl").symlink_to(tmp_path / "elsewhere")
    (faces / "ben" / "3.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    assert loaded(faces).ids[-3:] == ["ben/3", "carl/1", "carl/2"]
    (tmp_path / "linked").symlink_to(faces)
    assert loaded(tmp_path / "linked").key == loaded(faces).key
    (faces / "dora").symlink_to(faces)
    assert any(line.startswith("/dora: holds folders and no pictures") for line in refused(faces))


def test_names_are_the_same_on_every_system(tmp_path: Path) -> None:
    keys = set()
    for form in ("NFC", "NFD"):
        faces = tmp_path / form
        # Names decide the pixels here, so these are written by hand.
        for name in ("zoé/é1.png", "zoé/é2.png", "ben/1.png", "ben/2.png"):
            path = faces / unicodedata.normalize(form, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), len(name) * 9, np.uint8)).save(path)
        (faces / "labels.csv").write_text("path,hair\nzoé/é1.png,dark\n", encoding="utf-8")
        images = loaded(faces)
        assert images.ids == ["ben/1", "ben/2", "zoé/é1", "zoé/é2"]
        keys.add(images.key)
    assert len(keys) == 1


name = st.text(st.sampled_from("ab.é1- Tt"), min_size=1, max_size=5) | st.sampled_from(
    ["train", "val", "test", "Thumbs.db", ".x", "labels.csv", "1.png", "e\u0301"]
)
usable = name.filter(lambda text: text not in (".", ".."))
trees = st.lists(st.tuples(st.lists(usable, min_size=1, max_size=4), st.sampled_from("pdfl")), max_size=8)


@given(trees)
def test_odd_trees_are_read_whole_or_refused_in_lines(
    tmp_path_factory: pytest.TempPathFactory, tree: list[tuple[list[str], str]]
) -> None:
    faces = tmp_path_factory.mktemp("tree") / "faces"
    pictures(faces, "anna/1.png", "anna/2.png")
    expected = {faces / "anna" / "1.png", faces / "anna" / "2.png"}
    for parts, kind in tree:
        path = faces.joinpath(*parts)
        if path.exists() or path.is_symlink() or any(parent.is_file() for parent in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "p":
            pictures(faces, "/".join(parts))
            expected.add(path)
        elif kind == "d":
            path.mkdir()
        elif kind == "f":
            path.write_text("no picture")
        else:
            path.symlink_to(faces)
    try:
        images = list(read_folder("faces", faces.parent, None))
    except InputError as error:
        assert all(str(faces) in problem for problem in error.problems)
        return
    # All that is a picture and not passed over was read, in order and each under an id of its own.
    read = [Path(image.place) for image in images]
    assert set(read) == {path for path in expected if not passed_over(path.relative_to(faces))}
    assert len({image.image_id for image in images}) == len(images)
    assert [image.identity for image in images] == [
        unicodedata.normalize("NFC", path.parent.name) for path in read
    ]
    names = [unicodedata.normalize("NFC", path.relative_to(faces).as_posix()) for path in read]
    assert names == sorted(names, key=lambda name: name.split("/"))


def passed_over(path: Path) -> bool:
    return any(part.startswith(".") or part == "Thumbs.db" for part in path.parts)


def test_data_show_counts_a_folder(faces: Path) -> None:
    (faces / "labels.csv").write_text("identity,gender\nanna,female\nben,male\n")
    done = sweep("data", "show", "folder:faces", cwd=faces.parent)
    assert done.returncode == 0
    assert "4 images" in done.stdout
    assert "female 2, male 2" in done.stdout
    assert (faces.parent / "contact-sheet.png").exists()
