"""The files of a page: what they show, what they keep to themselves, and the archive for JATOS."""

import hashlib
import io
import json
import re
import shlex
import uuid
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sweep.cli.human import human
from sweep.errors import InputError
from sweep.human.jatos import archive
from sweep.human.journal import ResponseLine
from sweep.human.journal_file import JournalFile
from sweep.human.pages import (
    TEMPLATE,
    experiment_of,
    page_files,
    page_texts,
    png,
    read_folder,
    write_folder,
)
from sweep.human.sessions import Sessions
from sweep.human.tables import RESPONSES, read_table
from tests.human.conftest import CONDITIONS, Simulated
from tests.human.experiment import CONTACT, command, files, pictures, response, trials

ROOT = Path(__file__).resolve().parents[2]


def test_every_trial_shows_the_pictures_of_its_row() -> None:
    made, shown = files(), pictures(12)
    lists = experiment_of(made)["lists"]
    rows = trials().to_pylist()
    assert sum(map(len, lists)) == len(rows)
    for row in rows:
        trial = lists[row["list"] - 1][row["position"] - 1]
        assert (trial["trial_id"], trial["block"]) == (row["trial_id"], row["block"])
        right = "b" if row["left"] == "a" else "a"
        for part, image_id in (
            ("target", row["target_image"]),
            ("left", row[f"image_{row['left']}"]),
            ("right", row[f"image_{right}"]),
        ):
            with Image.open(io.BytesIO(made[trial[part]])) as image:
                assert np.array_equal(np.asarray(image), shown[image_id])
        assert trial["left_is"] == row["left"]


def test_the_page_tells_neither_who_is_shown_nor_what_is_expected() -> None:
    made = files()
    told = made["trials.js"].decode() + " ".join(made)
    assert not re.search(r"\bp\d\d\b", told)
    for word in ("objects", "faces", "expected", "votes", "condition", "ambiguous"):
        assert word not in told


def test_a_picture_that_the_study_lacks_is_named() -> None:
    some = {image_id: pixels for image_id, pixels in pictures(12).items() if image_id != "p03"}
    with pytest.raises(
        InputError, match=r"the study has no image 'p03' \(1 such in all\); name the study file"
    ):
        page_files(trials(), some, CONTACT, page_texts())


def test_pictures_are_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    other = png(white)
    monkeypatch.setattr(Image.Image, "save", lambda image, buffer, *_, **__: buffer.write(other))
    assert png(white) == other
    with pytest.raises(ValueError, match="not what was written"):
        png(black)


def test_contact_and_texts_cannot_become_markup() -> None:
    evil = "</script><script>alert(1)</script>"
    words = page_texts()
    words["en"] = words["en"] | {"title": evil, "noscript": evil}
    made = page_files(trials(), pictures(12), evil, words)
    assert evil not in made["index.html"].decode()
    assert experiment_of(made)["contact"] == evil  # in a script file, where it is a string and nothing else


def test_all_languages_have_the_same_texts_and_places() -> None:
    words = page_texts()
    assert list(words) == ["en", "de"]

    def places(text: Any) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", json.dumps(text)))

    for key, text in words["en"].items():
        assert places(words["de"][key]) == places(text), key
    scripts = "".join(path.read_text() for path in TEMPLATE.glob("*.js"))
    unused = [key for key in words["en"] if f'"{key}"' not in scripts and key not in ("noscript", "language")]
    assert unused == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is no JSON in UTF-8"),
        ("[]", "must be an object with an object of texts"),
        ('{"en": {"titel": "x"}}', "en.titel: there is no such text"),
        ('{"en": {"consent": "x"}}', "en.consent: must be a list of strings"),
        ('{"en": {"title": ["x"]}}', "en.title: must be a string"),
        ('{"french": {}}', "french: name a language by its two letters"),
        ('{"fr": {"title": "x"}}', "fr: lacks language, noscript"),
    ],
)
def test_own_texts_are_checked(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "texts.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(problem)):
        page_texts(tmp_path / "texts.json")


def test_own_texts_replace_ours_or_stand_beside_them(tmp_path: Path) -> None:
    french = page_texts()["en"] | {"language": "Français"}
    content = {"en": {"consent": ["Approved by the ethics committee."]}, "fr": french}
    (tmp_path / "texts.json").write_text(json.dumps(content), encoding="utf-8")
    words = page_texts(tmp_path / "texts.json")
    assert list(words) == ["en", "de", "fr"]
    assert words["en"]["consent"] == ["Approved by the ethics committee."]
    assert words["en"]["title"] == page_texts()["en"]["title"]


def test_a_folder_is_written_whole_and_replaces_only_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "page"
    write_folder(folder, files())
    assert read_folder(folder) == {name: content for name, content in files().items() if name != "page.json"}
    write_folder(folder, files(blocks=1))
    assert len(experiment_of(read_folder(folder))["lists"][0]) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds something other than a page"):
        write_folder(other, files())
    assert (other / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["experiment.js", "images"])
def test_a_file_that_was_changed_or_lost_is_found(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / "page", files())
    path = tmp_path / "page" / name
    path = next(path.iterdir()) if path.is_dir() else path
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=f"{path.name}: is not what was written"):
        read_folder(tmp_path / "page")
    path.unlink()
    with pytest.raises(InputError, match=f"{path.name}: is missing"):
        read_folder(tmp_path / "page")


def test_vendored_files_are_those_that_were_noted() -> None:
    vendor = TEMPLATE / "vendor"
    noted = json.loads((vendor / "VENDOR.json").read_text())
    package = json.loads((ROOT / "tools" / "jsPsych" / "package.json").read_text())["dependencies"]
    lock_text = (ROOT / "tools" / "jsPsych" / "package-lock.json").read_text()
    lock = json.loads(lock_text)["packages"]
    assert {path.name for path in vendor.iterdir()} == {*noted, "VENDOR.json", "NOTICE"}
    for name, entry in noted.items():
        content = (vendor / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert b"sourceMappingURL" not in content
        assert package[entry["module"]] == entry["version"]
        assert lock[f"node_modules/{entry['module']}"]["version"] == entry["version"]
    assert "resolved" not in lock_text
    assert all(entry["integrity"].startswith("sha512-") for name, entry in lock.items() if name)


def test_the_archive_has_the_form_of_jatos() -> None:
    made = archive(files(), "Faces <b> & more")
    assert made == archive(files(), "Faces <b> & more")
    with zipfile.ZipFile(io.BytesIO(made)) as opened:
        assert opened.testzip() is None
        names = opened.namelist()
        (described,) = (name for name in names if "/" not in name)
        (folder,) = {name.split("/")[0] for name in names if "/" in name}
        content = json.loads(opened.read(described))
        document = opened.read(f"{folder}/jatos.html").decode()
    assert described.endswith(".jas")
    assert content["version"] == "3"
    study = content["data"]
    assert set(study) == {
        "uuid",
        "title",
        "description",
        "active",
        "groupStudy",
        "linearStudy",
        "dirName",
        "comments",
        "jsonData",
        "endRedirectUrl",
        "studyEntryMsg",
        "componentList",
        "batchList",
    }
    assert study["dirName"] == folder
    assert not re.search(r"[\s*?\"\\/,<>|:~!§$%&^°]", folder)
    assert not re.search("[<>&]", study["title"])
    (component,), (batch,) = study["componentList"], study["batchList"]
    assert set(component) == {"uuid", "title", "htmlFilePath", "reloadable", "active", "comments", "jsonData"}
    assert re.fullmatch(r"^[\w-][\w/-]*\.[\w-]+$", component["htmlFilePath"])
    assert component["reloadable"] is True
    assert set(batch) == {
        "uuid",
        "title",
        "active",
        "maxActiveMembers",
        "maxTotalMembers",
        "maxTotalWorkers",
        "allowedWorkerTypes",
        "comments",
        "jsonData",
    }
    assert len({uuid.UUID(part["uuid"]) for part in (study, component, batch)}) == 3
    for name in re.findall(r'(?:src|href)="([^":]+)"', document):
        assert name == "jatos.js" or f"{folder}/{name}" in names
    assert document.index("jatos.js") < document.index("vendor/jspsych.js")
    assert "Content-Security-Policy" not in document
    assert f"{folder}/exit.js" not in names


def test_from_a_study_to_its_page_and_archive(
    study: Simulated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, contact = ("--out", tmp_path / "page"), ("--contact", CONTACT)
    trials_said = command(capsys, "trials", *study.arguments, "--conditions", *CONDITIONS, "--blocks", 2)
    assert trials_said.code == 0, trials_said.errors
    (chosen,) = re.findall(r"Experiment +(\w+)", trials_said.output)
    own = ("--experiment", chosen)
    said = command(capsys, "page", *study.arguments, *own, *contact, *out, "--jatos", tmp_path / "faces.jzip")
    assert said.code == 0, said.errors
    experiment = experiment_of(read_folder(tmp_path / "page"))
    assert experiment["experiment_id"] == chosen
    assert chosen in said.output
    assert experiment["contact"] == CONTACT
    assert zipfile.is_zipfile(tmp_path / "faces.jzip")
    for options, reason in (
        ((*own, "--contact", " "), "--contact: is empty"),
        ((*own, *contact, "--jatos", "faces.zip"), "JATOS takes files that end in .jzip"),
        ((*contact, "--experiment", "none"), "there is no such; there are: "),
    ):
        refused = command(capsys, "page", *study.arguments, *options, "--out", tmp_path / "other")
        assert (refused.code, len(refused.errors.splitlines())) == (2, 1)
        assert reason in refused.errors
        assert not (tmp_path / "other").exists()


def test_the_collectors_journal_is_what_import_reads(
    study: Simulated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = command(
        capsys, "trials", *study.arguments, "--conditions", *CONDITIONS, "--blocks", 2, "--catch", 4
    )
    (chosen,) = re.findall(r"Experiment +(\w+)", said.output)
    contact = ("--contact", CONTACT, "--out", tmp_path / "page", "--experiment", chosen)
    assert command(capsys, "page", *study.arguments, *contact).code == 0
    experiment = experiment_of(read_folder(tmp_path / "page"))
    moment, path = datetime.now(UTC), tmp_path / "journal.jsonl"
    with JournalFile(path, chosen) as journal:
        sessions = Sessions(journal, experiment, b"secret")
        for name in ("one", "two", "gone"):
            begun = sessions.begin(chosen, name, None, moment, moment)
            trials_left = experiment["lists"][begun["list"] - 1]
            answers = [ResponseLine.model_validate(response(name, trial)) for trial in trials_left]
            sessions.answer(answers)
            sessions.finish(name, moment)
    assert command(capsys, "forget", "gone", "--journal", path).code == 0
    imported = command(capsys, "import", *study.arguments, path)
    assert imported.code == 0, imported.errors
    rows = read_table(study.store.files, chosen, RESPONSES)
    assert set(rows["session_id"].to_pylist()) == {"one", "two"}
    assert rows.num_rows == 2 * len(experiment["lists"][0])
    assert rows["received"].null_count == 0


def commands_in(document: str) -> list[list[str]]:
    """What the blocks of a document tell a reader to type."""
    parts = re.split(r"^```", (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for block in parts[1::2] for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("sweep human")]


@pytest.mark.parametrize("words", commands_in("docs/human.md"), ids=lambda words: words[2])
def test_the_commands_of_the_documentation_are_ones_that_the_command_takes(words: list[str]) -> None:
    name, *arguments = words[2:]
    with human.commands[name].make_context(name, arguments) as context:
        assert context.params


def test_the_documentation_names_every_command() -> None:
    assert {words[2] for words in commands_in("docs/human.md")} == set(human.commands)
