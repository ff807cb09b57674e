"""What `sweep new` proposes for pictures: always a study that can be planned, where there is one."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sweep.data.proposal import kind_of, propose
from sweep.errors import InputError
from sweep.plan import Plan, plan_of
from sweep.study import Masking, parse_study
from sweep.study.draft import Draft, name_for, text_of
from tests.studies import write_faces


def write(folder: Path, persons: dict[str, int], side: int = 8) -> None:
    """A folder for each person with so many pictures."""
    for person, number in persons.items():
        (folder / person).mkdir(parents=True)
        for index in range(number):
            pixels = np.random.default_rng([*person.encode(), index]).integers(0, 256, (side, side), np.uint8)
            Image.fromarray(pixels).save(folder / person / f"{index}.png")


def planned(draft: Draft, folder: Path) -> Plan:
    path = folder / "study.yaml"
    return plan_of(parse_study(path, text_of(draft, path, "pictures").encode()))


def test_persons_and_gender_become_tasks_and_other_labels_are_named(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces")
    draft = propose("manifest:faces/manifest.csv", tmp_path)
    assert draft.tasks == ("identity", "gender")
    assert draft.further == ("hair", "view_deg")
    plan = planned(draft, tmp_path)
    assert len(plan.models) == 2 * 2 * 5
    assert "# These could be added: hair, view_deg.\n" in plan.source.decode()
    # One picture of each person, held back.
    split = plan.images.table["split"].to_pylist()
    identity = plan.images.table["identity"].to_pylist()
    assert {split[index] for index in plan.selected} == {"validation"}
    assert Counter(identity[index] for index in plan.selected) == dict.fromkeys(identity, 1)


def test_what_is_not_asked_is_as_in_a_study_without_the_block(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces")
    study = planned(propose("manifest:faces/manifest.csv", tmp_path), tmp_path).study
    assert study.masking == Masking()
    assert study.dataset.split_seed == 0


@pytest.mark.parametrize(("side", "expected"), [(40, 64), (95, 64), (96, 96), (300, 96)])
def test_small_pictures_are_not_enlarged_beyond_what_the_backbones_need(
    tmp_path: Path, side: int, expected: int
) -> None:
    write(tmp_path / "faces", {"anna": 2, "ben": 2}, side)
    assert propose("folder:faces", tmp_path).input_size == expected


@pytest.mark.parametrize(("pictures", "fraction"), [(10, 0.2), (5, 0.2), (4, 0.25), (3, 0.34), (2, 0.5)])
def test_as_much_is_held_back_as_a_picture_of_each_person_needs(
    tmp_path: Path, pictures: int, fraction: float
) -> None:
    write(tmp_path / "faces", dict.fromkeys("abcdefg", pictures))
    draft = propose("folder:faces", tmp_path)
    assert draft.validation_fraction == fraction
    assert len(planned(draft, tmp_path).selected) == 7


def test_one_poor_person_does_not_cost_the_others_half_of_their_pictures(tmp_path: Path) -> None:
    write(tmp_path / "faces", {"a": 2} | dict.fromkeys("bcdefghijkl", 10))
    assert propose("folder:faces", tmp_path).validation_fraction == 0.2


def test_persons_with_one_picture_leave_their_labels(tmp_path: Path) -> None:
    write(tmp_path / "faces", dict.fromkeys("abcd", 1))
    (tmp_path / "faces" / "labels.csv").write_text("identity,gender\na,f\nb,m\nc,f\nd,m\n")
    draft = propose("folder:faces", tmp_path)
    assert (draft.tasks, draft.stratify) == (("gender",), "gender")
    assert len(planned(draft, tmp_path).models) == 10


def test_one_picture_too_few_leaves_the_labels(tmp_path: Path) -> None:
    persons = {"a": 1} | dict.fromkeys("bcdefghijkl", 5)
    write(tmp_path / "faces", persons)
    rows = [f"{person},{'fm'[index % 2]}\n" for index, person in enumerate(persons)]
    (tmp_path / "faces" / "labels.csv").write_text("identity,gender\n" + "".join(rows))
    draft = propose("folder:faces", tmp_path)
    assert draft.stratify == "gender"
    assert "identity" not in draft.tasks
    planned(draft, tmp_path)


def test_labels_that_nobody_can_tell_apart_are_not_proposed(tmp_path: Path) -> None:
    write(tmp_path / "faces", dict.fromkeys("abcd", 5))
    labels = tmp_path / "faces" / "labels.csv"
    labels.write_text("identity,hair,eyes\na,dark,blue\nb,fair,grey\nc,dark ,blue\nd,fair,grey\n")
    assert propose("folder:faces", tmp_path).further == ("eyes",)


def test_a_split_of_the_source_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "faces" / "train", {"anna": 3, "ben": 3})
    write(tmp_path / "faces" / "val", {"anna": 1, "ben": 2})
    draft = propose("folder:faces", tmp_path)
    plan = planned(draft, tmp_path)
    assert "validation_fraction" not in plan.source.decode()
    assert plan.images.table["split"].to_pylist().count("validation") == 3
    assert len(plan.selected) == 2


@pytest.mark.parametrize(
    ("persons", "expected"),
    [
        ({"anna": 4}, "every image has the same 'identity', 'anna'; nothing to tell apart"),
        ({"anna": 1, "ben": 3}, "the only image with identity 'anna'"),
    ],
)
def test_where_there_is_no_study_planning_says_why(
    tmp_path: Path, persons: dict[str, int], expected: str
) -> None:
    write(tmp_path / "faces", persons)
    draft = propose("folder:faces", tmp_path)
    with pytest.raises(InputError) as caught:
        planned(draft, tmp_path)
    assert len(caught.value.problems) == 1
    assert expected in caught.value.problems[0]


# A label is the same in all pictures of a person: of each person one picture gets a map, so only then do all labels get two.
person = st.tuples(
    st.integers(1, 6), st.sampled_from(["f", "m", ""]), st.sampled_from(["dark", "fair", "né", ""])
)


@settings(deadline=None)
@given(st.lists(person, min_size=1, max_size=7))
def test_a_study_is_found_wherever_a_label_allows_one(
    tmp_path_factory: pytest.TempPathFactory, persons: list[tuple[int, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("proposal")
    rows = []
    for who, (number, gender, hair) in enumerate(persons):
        write(folder / "faces", {f"p{who}": number})
        for index in range(number):
            rows.append((f"p{who}", gender, hair, f"p{who}/{index}.png"))
    lines = [f"{path},{gender},{hair}\n" for _, gender, hair, path in rows]
    (folder / "faces" / "labels.csv").write_text("path,gender,hair\n" + "".join(lines), encoding="utf-8")
    labels = dict(zip(("identity", "gender", "hair"), zip(*rows, strict=True), strict=False))
    several = [name for name, values in labels.items() if "" not in values and len(set(values)) > 1]
    draft = propose("folder:faces", folder)
    if not several:
        with pytest.raises(InputError):
            planned(draft, folder)
    elif any(min(Counter(labels[name]).values()) > 1 for name in several):
        plan = planned(draft, folder)
        assert set(draft.tasks) <= {"identity", "gender", "hair"}
        assert len(plan.models) == 10 * len(draft.tasks)
    # Where each label has a class of one picture, it depends on the split whether there is a study.


@pytest.mark.parametrize(("persons", "images", "kind"), [(3, 19, "umist"), (4, 10, "orl")])
def test_mat_files_are_told_apart(tmp_path: Path, persons: int, images: int, kind: str) -> None:
    import scipy.io

    label = np.repeat(np.arange(persons), images)
    x = np.random.default_rng(0).integers(0, 256, (32, 30, len(label)), np.uint8)
    scipy.io.savemat(tmp_path / "faces.MAT", {"x": x, "label": label})
    assert kind_of(tmp_path / "faces.MAT") == kind
    plan = planned(propose(f"{kind}:faces.MAT", tmp_path), tmp_path)
    assert len(plan.selected) == persons
    scipy.io.savemat(tmp_path / "other.mat", {"x": x[:, :, :-1], "label": label[:-1]})
    with pytest.raises(InputError, match="holds neither 19 images of each person, as UMIST does, nor 10"):
        kind_of(tmp_path / "other.mat")


def test_another_file_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "faces.zip").touch()
    with pytest.raises(InputError, match=r"faces\.zip: is no folder, no \.csv and no \.mat file"):
        kind_of(tmp_path / "faces.zip")


@given(st.text())
def test_every_name_makes_a_name_of_a_study(name: str) -> None:
    made = name_for(Path(f"x{name.replace('/', '')}"))
    draft = Draft("folder:faces", 64, ("identity",))
    assert (
        parse_study(
            Path("study.yaml"),
            f"name: {made}\n".encode() + text_of(draft, Path("s.yaml"), "x").split("name: s\n")[1].encode(),
        ).name
        == made
    )
