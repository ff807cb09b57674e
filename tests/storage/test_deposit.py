"""Files of a submitted study in the results root: each once, whole, and nothing but what was submitted."""

from pathlib import Path

import pytest

from sweep.errors import WorkError
from sweep.storage import deposit as module
from sweep.storage.deposit import FOLDER, deposit, fetch
from sweep.storage.files import Files


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, Path]:
    """Three files of which two have the same content."""
    found = {"submitted/a.png": b"one", "submitted/in/b.png": b"two", "submitted/c.png": b"one"}
    here = {name: tmp_path / "here" / name.replace("/", "-") for name in found}
    (tmp_path / "here").mkdir()
    for name, path in here.items():
        path.write_bytes(found[name])
    return here


class CountingFiles(Files):
    """Counts what is written."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.written: list[str] = []

    def write(self, path: str, content: bytes) -> None:
        self.written.append(path)
        super().write(path, content)


def test_each_content_is_sent_once_and_comes_back_in_its_place(
    bucket: str, contents: dict[str, Path], tmp_path: Path
) -> None:
    files, done = CountingFiles(f"{bucket}/results"), list[int]()
    digests = deposit(files, contents, done.append)
    assert len(files.written) == 2
    assert sum(done) == 3
    assert deposit(files, contents, done.append) == digests
    assert len(files.written) == 2
    assert sum(done) == 6
    contents["submitted/c.png"].write_bytes(b"three")
    deposit(files, contents, done.append)
    assert len(files.written) == 3
    fetch(files, digests, tmp_path / "there")
    got = {
        path.relative_to(tmp_path / "there").as_posix(): path.read_bytes()
        for path in (tmp_path / "there").rglob("*.png")
    }
    assert got == {"submitted/a.png": b"one", "submitted/in/b.png": b"two", "submitted/c.png": b"one"}


def test_what_lies_there_under_a_false_name_is_refused(contents: dict[str, Path], tmp_path: Path) -> None:
    files = Files(str(tmp_path / "root"))
    digests = deposit(files, contents, lambda _: None)
    digest = digests["submitted/a.png"]
    files.write(f"{FOLDER}/{digest}", b"another")
    with pytest.raises(WorkError, match="is not what was submitted; delete it, and submit again"):
        fetch(files, digests, tmp_path / "there")
    assert not (tmp_path / "there" / "submitted" / "a.png").exists()


def test_a_file_that_is_gone_is_one_line_and_an_exit_code(
    contents: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text(f'{{"submitted/a.png": "{"0" * 64}"}}')
    assert module.main(str(tmp_path / "root"), "list.json") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sweep: ")
    assert line.endswith("/root/.inputs: submitted/a.png is not there; submit the study again")
