"""The wheel alone: what is in it, and that it works where there is no repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_everything_that_the_package_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("sweep/_studies/demo.yaml") == (ROOT / "studies" / "demo.yaml").read_bytes()
    tracked = subprocess.run(
        ["git", "ls-files", "sweep", "queries"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    expected = {path.replace("queries/", "sweep/_sql/") for path in tracked.stdout.split()}
    assert expected <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "tools/"))]


def test_it_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def sweep(*arguments: str) -> str:
        code = "import sweep, sys; assert sweep.__file__.startswith(sys.argv.pop(1)); from sweep.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, str(site), *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    sweep("demo", "--no-run")
    assert "= 20 models, 1,515 images (101 with maps)" in sweep("plan", "demo.yaml", "--no-time")
    assert "anova_source" in sweep("query", "--list")
    (work / "demo.yaml").write_text("name: mine\n")
    with pytest.raises(AssertionError, match=r"demo\.yaml: is another study; move it away"):
        sweep("demo", "--no-run")
    assert (work / "demo.yaml").read_text() == "name: mine\n"
