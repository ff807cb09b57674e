"""`sweep new` and `sweep schema`: from pictures to a study file without reading a manual."""

import json
import os
from pathlib import Path

import jsonschema  # Ray needs it, so it is always there
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sweep.plan import make_plan
from sweep.study import Study
from sweep.study.draft import Draft, text_of
from sweep.study.settings import StudySettings
from sweep.study.variation import varied
from tests.studies import SmallStudy, sweep, write_faces

STUDIES = sorted((Path(__file__).resolve().parents[2] / "studies").glob("*.yaml"))


def pictures(folder: Path) -> Path:
    """Three persons with five pictures each."""
    for person in ("anna", "ben", "zoé"):
        (folder / person).mkdir(parents=True)
        for index in range(5):
            pixels = np.random.default_rng([*person.encode(), index]).integers(0, 256, (40, 30), np.uint8)
            Image.fromarray(pixels).save(folder / person / f"{index}.png")
    return folder


def test_from_a_folder_to_a_plan(tmp_path: Path) -> None:
    pictures(tmp_path / "my faces")
    done = sweep("new", "my faces", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("15 pictures in my faces\n")
    assert "anna 5, ben 5, zoé 5" in done.stdout
    assert (
        "Wrote my-faces.yaml: 10 models that tell identity apart, 3 pictures with maps, 64 px." in done.stdout
    )
    commands = [line.split("    ")[0].strip() for line in done.stdout.split("Next:\n")[1].splitlines()]
    assert commands == ["sweep plan my-faces.yaml", "sweep run my-faces.yaml"]
    plan = sweep(*commands[0].split()[1:], "--no-time", cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    assert "= 10 models, 15 images (3 with maps), 64 px" in plan.stdout
    study = Study.load(tmp_path / "my-faces.yaml")
    assert study.dataset.source == "folder:my faces"
    assert dict(study.factors.pretraining).keys() == {"objects", "faces"}
    assert study.factors.seed == (1, 2, 3, 4, 5)


def test_paths_start_at_the_study_file(tmp_path: Path) -> None:
    write_faces(tmp_path / "data" / "faces")
    (tmp_path / "real" / "studies").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path / "real" / "studies")
    done = sweep("new", "data/faces/manifest.csv", "-o", "linked/mine.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    study = Study.load(tmp_path / "real" / "studies" / "mine.yaml")
    assert (study.name, study.dataset.source) == ("mine", "manifest:../../data/faces/manifest.csv")
    for path in ("linked", "real/studies"):
        assert len(make_plan(tmp_path / path / "mine.yaml").models) == 20


def test_a_manifest_is_named_after_its_folder(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces")
    (tmp_path / "faces" / "manifest.csv").rename(tmp_path / "faces" / "people.csv")
    assert sweep("new", "faces/people.csv", cwd=tmp_path).returncode == 0
    (tmp_path / "faces" / "people.csv").rename(tmp_path / "faces" / "manifest.csv")
    assert sweep("new", "manifest.csv", "-o", "../faces.yaml", cwd=tmp_path / "faces").returncode == 0
    assert {path.name for path in tmp_path.glob("*.yaml")} == {"people.yaml", "faces.yaml"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    pictures(tmp_path / "faces")
    (tmp_path / "faces.yaml").write_text("mine")
    os.symlink("nowhere", tmp_path / "link.yaml")  # noqa: PTH211
    for name in ("faces.yaml", "link.yaml"):
        done = sweep("new", "faces", "--output", name, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert (
            done.stderr
            == f"sweep: {name}: is there already; name another file with --output, or move it away\n"
        )
    assert (tmp_path / "faces.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["nowhere"],
            "nowhere: no such folder or file; name a folder of pictures, a manifest or a .mat file",
        ),
        (["notes.txt"], "notes.txt: is no folder, no .csv and no .mat file; name one of these"),
        (
            ["faces", "-o", "gone/faces.yaml"],
            "--output gone/faces.yaml: there is no folder gone; make it first",
        ),
        (
            ["faces", "-o", "faces/faces.yaml"],
            "faces/faces.yaml: would lie among the pictures; run the command in",
        ),
        (["lone"], "factors.task: every image has the same 'identity', 'anna'; nothing to tell apart"),
        (["faces/anna"], "faces/anna: holds no folders; make one for each person"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    pictures(tmp_path / "faces")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "anna").symlink_to(tmp_path / "faces" / "anna")
    done = sweep("new", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"sweep: {expected}")
    assert list(tmp_path.rglob("*.yaml")) == []


def test_help_has_examples(tmp_path: Path) -> None:
    assert "sweep new my-faces\n" in sweep("new", "--help", cwd=tmp_path).stdout


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(deadline=None)
@given(text, text)
def test_every_path_and_name_survives_the_study_file(source: str, name: str) -> None:
    path = Path(f"{name.replace('/', '').replace(chr(0), '')}.yaml")
    draft = Draft(f"folder:{source}", 64, ("identity",), stratify=name)
    study = Study.model_validate(yaml.safe_load(text_of(draft, path, name)))
    assert (study.dataset.source, study.dataset.stratify) == (f"folder:{source}", name)


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> jsonschema.Draft202012Validator:
    """What an editor does with the printed schema."""
    done = sweep("schema", cwd=tmp_path_factory.mktemp("schema"))
    assert done.returncode == 0
    schema = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_editors_accept_the_studies_that_are_shipped(
    checker: jsonschema.Draft202012Validator, path: Path
) -> None:
    checker.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("block", "changes"),
    [
        ("masking", {"percent": [1]}),
        ("masking", {"fills": ["nothing"]}),
        ("dataset", {"input_size": 8}),
        ("factors", {"pretraining": {"first": {"weight": "npz:first.npz"}}}),
        ("factors", {"schedule": {"short": {"epoch": 3}}}),
        ("relevance", {"engine": "other"}),
    ],
)
def test_editors_mark_what_a_study_may_not_say(
    checker: jsonschema.Draft202012Validator, small_study: SmallStudy, block: str, changes: dict[str, object]
) -> None:
    checker.validate(small_study.content)
    assert not checker.is_valid(small_study.changed(**{block: changes}).content)


def test_editors_can_explain_every_setting(checker: jsonschema.Draft202012Validator) -> None:
    blocks = {"StudySettings": checker.schema} | checker.schema["$defs"]
    assert {"Dataset", "Factors", "Masking", "Relevance"} <= blocks.keys()
    own = StudySettings.model_fields.keys() - {"name"}  # these blocks explain themselves
    without = {
        f"{block}.{name}"
        for block, described in blocks.items()
        if block != "FinetuneOverrides"
        for name, setting in described["properties"].items()
        if "description" not in setting and not (block == "StudySettings" and name in own)
    }
    assert without == set()


def test_a_study_is_varied_with_its_comments(tmp_path: Path) -> None:
    pictures(tmp_path / "faces")
    pictures(tmp_path / "others, too")
    assert sweep("new", "faces", cwd=tmp_path).returncode == 0
    before = (tmp_path / "faces.yaml").read_text()
    done = sweep("new", "--from", "faces.yaml", "-o", "second.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("15 pictures in faces\n")
    assert (tmp_path / "second.yaml").read_text() == before.replace("name: faces\n", "name: second\n")
    done = sweep("new", "others, too", "--from", "faces.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    study = Study.load(tmp_path / "others-too.yaml")
    assert (study.name, study.dataset.source) == ("others-too", "folder:others, too")
    (tmp_path / "away").mkdir()
    for arguments, expected in (
        (["--from", "faces.yaml"], "--from: name the new file with --output"),
        (["--from", "gone.yaml", "-o", "new.yaml"], "gone.yaml: "),
        (["--from", "faces.yaml", "-o", "second.yaml"], "second.yaml: is there already"),
        (["--from", "faces.yaml", "-o", "away/new.yaml"], "--output away/new.yaml: must lie beside"),
        ([], "Missing argument"),
    ):
        done = sweep("new", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"sweep: {expected}"), done.stderr


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
@pytest.mark.parametrize("source", ["folder:my-faces", "folder:a, b # {c}", "folder:~/ü: 'x' \"y\"", "no"])
def test_only_name_and_source_of_a_study_change(path: Path, source: str) -> None:
    before = yaml.safe_load(path.read_text())
    after = yaml.safe_load(varied(path.read_text(), "yes", source))
    assert after == {**before, "name": "yes", "dataset": {**before["dataset"], "source": source}}
    assert yaml.safe_load(varied(path.read_text(), "on-e", None)) == {**before, "name": "on-e"}


def test_where_the_schema_lies_beside_it_the_first_line_names_it(tmp_path: Path) -> None:
    pictures(tmp_path / "faces")
    assert sweep("new", "faces", cwd=tmp_path).returncode == 0
    assert "yaml-language-server" not in (tmp_path / "faces.yaml").read_text()
    (tmp_path / "study.schema.json").write_text(sweep("schema", cwd=tmp_path).stdout)
    assert sweep("new", "faces", "-o", "second.yaml", cwd=tmp_path).returncode == 0
    first = (tmp_path / "second.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=study.schema.json"
    assert Study.load(tmp_path / "second.yaml").name == "second"
