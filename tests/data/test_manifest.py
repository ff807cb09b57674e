"""Manifests as people and programs write them: read right, or refused in lines that name the row."""

import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sweep.data.images import Images, load_images
from sweep.data.manifest import image_ids
from sweep.errors import InputError
from sweep.plan import make_plan
from sweep.study import Dataset
from tests.studies import write_small_study


def pictures(folder: Path, *names: str) -> None:
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(folder / name, "PNG")


def loaded(folder: Path, content: str | bytes, **settings: object) -> Images:
    data = content.encode() if isinstance(content, str) else content
    (folder / "manifest.csv").write_bytes(data)
    dataset = {"source": "manifest:manifest.csv", "input_size": 32, **settings}
    return load_images(Dataset.model_validate(dataset), folder)


def refused(folder: Path, content: str | bytes, **settings: object) -> list[str]:
    with pytest.raises(InputError) as caught:
        loaded(folder, content, **settings)
    return [problem.removeprefix(f"{folder}/manifest.csv: ") for problem in caught.value.problems]


PAIR = "path,identity\na.png,p1\nb.png,p1\n"


def test_files_told_apart_by_their_suffix_are_distinct(tmp_path: Path) -> None:
    names = ["subject01.happy", "subject01.sad", "subject02.glasses", "c/a.png", "c/a.jpg", "d/a.png"]
    pictures(tmp_path, *names)
    images = loaded(tmp_path, "path,identity\n" + "".join(f"{name},p1\n" for name in names))
    assert images.ids == ["subject01.happy", "subject01.sad", "subject02", "c/a.png", "c/a.jpg", "d/a"]


names = st.text(alphabet="ab./", min_size=1, max_size=6).filter(
    lambda name: PurePosixPath(name).name and ".." not in name and not name.startswith("/")
)


@given(st.lists(names, max_size=8, unique_by=lambda name: PurePosixPath(name).as_posix()), st.randoms())
def test_ids_are_unique_stay_as_they_were_where_they_were_and_know_no_order(paths: list[str], random) -> None:  # type: ignore[no-untyped-def]
    ids = image_ids(paths)
    assert len(set(ids)) == len(paths)
    stems = [PurePosixPath(path).with_suffix("").as_posix() for path in paths]
    if len(set(stems)) == len(stems):
        assert ids == stems
    for stem, name, path in zip(stems, ids, paths, strict=True):
        assert name in (stem, PurePosixPath(path).as_posix())
        if Counter(stems)[stem] > 1:
            assert name == PurePosixPath(path).as_posix()
    order = list(range(len(paths)))
    random.shuffle(order)
    assert image_ids([paths[i] for i in order]) == [ids[i] for i in order]


def test_rows_are_counted_as_an_editor_counts_lines(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    content = 'path,identity,remark\na.png,p1,"two\nlines"\n\nb.png,p1,x\nnone.png,p1,"also\n\nthree"\ngone.png,p1,x\n'
    problems = refused(tmp_path, content)
    assert [problem.split(":")[0] for problem in problems] == ["row 6", "row 9"]
    assert [line.split(",")[0] for line in content.split("\n")][5] == "none.png"
    assert [line.split(",")[0] for line in content.split("\n")][8] == "gone.png"
    assert refused(tmp_path, 'path,identity\na.png,"p1\n')[0].startswith("row 2: cannot be read as CSV: ")


def test_every_wrong_row_is_told_at_once_in_order(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    header = "path,identity,view_deg,split\n"
    rows = ["a.png,p1,nan,train", "b.png,p1,inf,test", "c.png,,1e999,", "a.png", "a.png,p1,4_5,validation"]
    assert refused(tmp_path, header + "\n".join(rows)) == [
        "row 2: view_deg: 'nan' is no number of degrees",
        "row 3: view_deg: 'inf' is no number of degrees",
        "row 3: split: 'test' is neither 'train' nor 'validation'",
        f"row 4: path: no file 'c.png' under {tmp_path}",
        "row 4: identity: is empty",
        "row 4: view_deg: '1e999' is no number of degrees",
        "row 4: split: '' is neither 'train' nor 'validation'",
        "row 5: has fewer cells than the header",
        "row 6: path: 'a.png' stands in row 2 already",
        "row 6: view_deg: '4_5' is no number of degrees",
    ]
    many = refused(tmp_path, "path,identity\n" + "".join(f"n{i}.png,p\n" for i in range(30)))
    assert len(many) == 21
    assert many[-1] == "... and 10 more"


def test_every_file_that_is_no_image_is_told_at_once(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    for name in ("x.png", "y.png"):
        (tmp_path / name).write_text("no image")
    problems = refused(tmp_path, PAIR + "x.png,p1\ny.png,p1\n")
    assert [problem.split(" cannot")[0] for problem in problems] == ["row 4: x.png", "row 5: y.png"]


@pytest.mark.parametrize(
    "content",
    [
        PAIR.encode("utf-8-sig"),
        PAIR.replace("\n", "\r\n").encode(),
        PAIR.replace("\n", "\r").encode(),
        PAIR.rstrip("\n").encode(),
        f"{PAIR}\n\n".encode(),
        b'"path","identity"\n"a.png","p1"\n"./b.png","p1"\n',
    ],
)
def test_byte_marks_and_line_ends_of_every_system_are_read(tmp_path: Path, content: bytes) -> None:
    pictures(tmp_path, "a.png", "b.png")
    images = loaded(tmp_path, content)
    assert images.ids == ["a", "b"]
    assert [place.rsplit(": ", 1)[1] for place in images.places] == ["row 2", "row 3"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (PAIR.replace(",", ";"), "separated by semicolons; separate them by commas"),
        (PAIR.replace(",", "\t"), "separated by tabs; separate them by commas"),
        (PAIR.encode("utf-16"), "it is UTF-16 or no text; save it as UTF-8"),
        (PAIR.encode("utf-16-le"), "it is UTF-16 or no text; save it as UTF-8"),
        ("path,identity\na.png,Zoé\n".encode("latin-1"), "row 2: cannot be read as CSV: not UTF-8"),
        ("", "has no column path and no column identity"),
        ("path,identity\n", "lists no images"),
        ("path,identity,\na.png,p1,\n", "column without a name: has no name in the header"),
        ("path,identity,hair,Hair\na.png,p1,x,y\n", "differs from 'hair' only in case"),
        ("path,identity,Gender\na.png,p1,x\n", "column Gender: write it 'gender'"),
        ("path,identity,Split\na.png,p1,train\n", "column Split: write it 'split'"),
        ("path,identity,HEIGHT\na.png,p1,2\n", "column HEIGHT: the study makes a column of that name itself"),
    ],
)
def test_other_formats_and_headers_are_refused_with_the_remedy(
    tmp_path: Path, content: str | bytes, expected: str
) -> None:
    pictures(tmp_path, "a.png", "b.png")
    (problem,) = refused(tmp_path, content)
    assert expected in problem


def test_a_path_that_is_nearly_right_is_told_with_what_is_there(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "Zoé.png")
    decomposed = unicodedata.normalize("NFD", "Zoé.png")
    pictures(tmp_path, "faces/a.png", "B.PNG", decomposed)
    asked = ["faces\\a.png", "b.png", "B.PNG ", composed, "faces", f"{'x' * 300}.png"]
    problems = refused(tmp_path, "path,identity\n" + "".join(f'"{name}",p1\n' for name in asked))
    hints = [problem.partition(f" under {tmp_path}")[2] for problem in problems]
    assert hints == [
        "; did you mean 'faces/a.png'?",
        "; did you mean 'B.PNG'?",
        "; did you mean 'B.PNG'?",
        f"; did you mean '{decomposed}', which is written in another Unicode form?",
        "; it is a folder",
        "",
    ]


def test_one_file_under_two_spellings_is_one_row_too_many(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "c/b.png")
    problems = refused(tmp_path, "path,identity\na.png,p1\n./a.png,p1\nc/../a.png,p1\n")
    assert [problem.split(" stands")[0] for problem in problems] == [
        "row 3: path: './a.png'",
        "row 4: path: 'c/../a.png'",
    ]


@pytest.mark.parametrize("other", ["p1 ", " p1", unicodedata.normalize("NFD", "é"), "p  2"])
def test_labels_that_look_alike_are_no_two_classes(tmp_path: Path, other: str) -> None:
    own = {"p  2": "p 2"}.get(other, "p1" if "p1" in other else "é")
    pictures(tmp_path, "a.png", "b.png", "c.png")
    content = "path,identity,hair\na.png,{},x\nb.png,{},x\nc.png,{},y\n"
    (problem,) = refused(tmp_path, content.format(own, own, other))
    assert problem.startswith("row 4: identity: ")
    assert "looks like the one of row 2" in problem
    images = loaded(tmp_path, f"path,identity,hair\na.png,p1,{own}\nb.png,p1,{own}\nc.png,p1,{other}\n")
    with pytest.raises(
        InputError, match=r"row 4: 'hair' looks like that of .*row 2 but is written with other"
    ):
        images.labels("hair")


def test_a_split_of_its_own_is_used(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    content = "path,identity,split\na.png,p1,validation\nb.png,p2,train\nc.png,p1,train\n"
    images = loaded(tmp_path, content)
    assert images.table["split"].to_pylist() == ["validation", "train", "train"]  # p2 has a single image
    assert "split" not in images.label_columns
    without = loaded(tmp_path, "path,identity\na.png,p1\nc.png,p1\n")
    assert sorted(without.table["split"].to_pylist()) == ["train", "train"]


@pytest.mark.parametrize(
    "setting", [{"validation_fraction": 0.2}, {"stratify": "identity"}, {"split_seed": 0}]
)
def test_settings_that_an_own_split_would_make_void_are_refused(
    tmp_path: Path, setting: dict[str, object]
) -> None:
    pictures(tmp_path, "a.png", "b.png")
    (problem,) = refused(tmp_path, "path,identity,split\na.png,p1,validation\nb.png,p1,train\n", **setting)
    assert problem.startswith(f"dataset.{next(iter(setting))}: the source has a split of its own; leave out ")


@pytest.mark.parametrize("part", ["train", "validation"])
def test_an_own_split_needs_both_parts(tmp_path: Path, part: str) -> None:
    pictures(tmp_path, "a.png", "b.png")
    (problem,) = refused(tmp_path, f"path,identity,split\na.png,p1,{part}\nb.png,p1,{part}\n")
    assert "column split: no row is '" in problem


def test_links_and_absolute_paths_are_read_and_said(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "link.png").symlink_to("a.png")
    images = loaded(tmp_path, f"path,identity\n{tmp_path}/b.png,p1\na.png,p1\nlink.png,p1\n")
    assert images.ids == [f"{tmp_path}/b", "a", "link"]
    assert any("row 2: has an absolute path" in note for note in images.notes)


def test_a_manifest_that_is_a_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").mkdir()
    with pytest.raises(InputError, match="no such manifest"):
        load_images(Dataset(source="manifest:manifest.csv"), tmp_path)


def test_the_key_of_a_plain_manifest_is_what_it_always_was(tmp_path: Path) -> None:
    rows = ["path,identity,gender,view_deg,hair"]
    for index in range(6):
        pixels = np.arange(32 * 32).reshape(32, 32) * (index + 1) % 256
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,p{index % 2},male,{index}.5,dark")
    assert loaded(tmp_path, "\n".join(rows)).key == "bc786d229c73e77f33b5"  # names stored units


def test_a_study_learns_from_the_split_of_its_manifest(tmp_path: Path) -> None:
    study = write_small_study(tmp_path)
    drawn = make_plan(study.path)
    manifest = tmp_path / study.content["dataset"]["source"].removeprefix("manifest:")
    header, *rows = manifest.read_text().splitlines()
    settings = {name: study.content["dataset"][name] for name in ("source", "input_size")}
    study.content["dataset"].clear()
    study.changed(dataset=settings)

    def split(choose: Callable[[int, str], bool]) -> None:
        parts = ("validation" if choose(index, row) else "train" for index, row in enumerate(rows))
        lines = [f"{row},{part}" for row, part in zip(rows, parts, strict=True)]
        manifest.write_text("\n".join([f"{header},split", *lines]))

    split(lambda index, _: index % 5 == 0)
    own = make_plan(study.path)
    assert [part == "validation" for part in own.images.table["split"].to_pylist()] == [
        index % 5 == 0 for index in range(len(rows))
    ]
    assert {model.key for model in own.models}.isdisjoint(model.key for model in drawn.models)
    split(lambda _, row: ",p00," in row)
    with pytest.raises(InputError, match=r"no training image has identity 'p00'; add images to train on"):
        make_plan(study.path)
