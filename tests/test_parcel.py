"""What a study takes along to another machine, and that it holds there as it stands."""

import shutil
from pathlib import Path

import pytest

from sweep import parcel
from sweep.errors import InputError
from sweep.parcel import pack
from sweep.plan import make_plan
from sweep.study import load_study
from tests.studies import SmallStudy, write_small_study


def test_an_unpacked_study_is_the_same_study(small_study: SmallStudy, tmp_path: Path) -> None:
    packed = pack(load_study(small_study.path))
    there = tmp_path / "there"
    packed.unpack(there)
    here, copied = make_plan(small_study.path), make_plan(there / packed.study)
    assert copied.source == here.source
    assert [model.key for model in copied.models] == [model.key for model in here.models]
    assert copied.images.keys == here.images.keys
    # The study, its manifest, 30 images, 2 weights; nothing beside the one folder.
    assert len(packed.files) == 34
    assert [path.name for path in there.iterdir()] == [parcel.FOLDER]


def test_files_above_the_study_keep_their_places(tmp_path: Path) -> None:
    study = write_small_study(tmp_path / "data")
    shutil.move(study.path, tmp_path / "study.yaml")
    moved = SmallStudy(tmp_path / "mine" / "deep" / "study.yaml", study.content)
    moved.path.parent.mkdir(parents=True)
    moved = moved.changed(
        dataset={"source": "manifest:../../data/faces/manifest.csv"},
        factors={"pretraining": {"first": "npz:../../data/first.npz", "second": "random:1"}},
    )
    packed = pack(load_study(moved.path))
    assert packed.study == "submitted/mine/deep/study.yaml"
    packed.unpack(tmp_path / "there")
    assert make_plan(tmp_path / "there" / packed.study).images.keys == make_plan(moved.path).images.keys


def test_a_folder_of_pictures_travels_with_its_labels(tmp_path: Path) -> None:
    study = write_small_study(tmp_path / "data")
    for person in ("anna", "ben"):
        (tmp_path / "data" / "mine" / person).mkdir(parents=True)
        for number, picture in enumerate(sorted((tmp_path / "data" / "faces").glob("*.png"))[:3]):
            shutil.copy(picture, tmp_path / "data" / "mine" / person / f"{number}.png")
    (tmp_path / "data" / "mine" / "labels.csv").write_text("identity,gender\nanna,f\nben,m\n")
    study = study.changed(dataset={"source": "folder:mine"}, relevance={"images": {"where": {}}})
    packed = pack(load_study(study.path))
    packed.unpack(tmp_path / "there")
    here, there = make_plan(study.path), make_plan(tmp_path / "there" / packed.study)
    assert there.images.table["gender"].to_pylist() == ["f", "f", "f", "m", "m", "m"]
    assert there.images.keys == here.images.keys


def test_absolute_paths_are_told_and_left_alone(small_study: SmallStudy) -> None:
    study = small_study.changed(
        dataset={"source": "umist:/srv/umist.mat"},
        factors={"pretraining": {"first": "npz:/srv/first.npz", "second": "keras:imagenet"}},
    )
    packed = pack(load_study(study.path))
    assert list(packed.files.values()) == [study.path]
    assert packed.elsewhere == ("/srv/first.npz", "/srv/umist.mat")


def test_every_file_that_is_missing_has_a_line(small_study: SmallStudy) -> None:
    (small_study.path.parent / "second.npz").unlink()
    (small_study.path.parent / "faces" / "p00-v0.png").unlink()
    with pytest.raises(InputError) as caught:
        pack(load_study(small_study.path))
    weights, image = caught.value.problems
    assert "factors.pretraining.second: no file" in weights
    assert image.endswith("dataset.source: no file " + str(small_study.path.parent / "faces" / "p00-v0.png"))


def test_what_is_too_large_is_told_before_it_is_sent(small_study: SmallStudy) -> None:
    pack(load_study(small_study.path))
    with pytest.raises(InputError, match="by their absolute paths there"):
        pack(load_study(small_study.path), 10_000)
