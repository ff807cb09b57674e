"""What the docs tell readers to type: commands that exist with the options they name, and code that runs."""

import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

import sweep
from sweep.cli.commands import cli
from sweep.plan import make_plan
from sweep.stages import index_of_study
from sweep.storage.checksums import STUDY, write_files
from sweep.storage.index import INDEX
from sweep.storage.store import Store
from tests import studies
from tests.report.simulated import simulate
from tools import docs_pages

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def commands(page: Path) -> list[list[str]]:
    """Every `sweep ...` that stands in a block without a language, also behind `&&`; words of a comment are cut off."""
    found = []
    for line in "".join(blocks(page, "")).splitlines():
        for part in re.split(r"&&|\|", re.sub(r"\s{2,}[^'\"]*$", "", line.strip())):
            if part.strip().startswith("sweep "):
                found.append(shlex.split(re.split(r" > ", part)[0])[1:])
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_every_command_on_a_page_is_one_with_these_options(page: Path) -> None:
    for words in commands(page):
        command, arguments = cli.commands[words[0]], words[1:]
        while isinstance(command, click.Group):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        if "STUDY" not in arguments:
            command.make_context(words[0], arguments)  # parses, and runs nothing


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with results of the studies demo and demo-paper, as far as the pages need them."""
    (tmp_path / "studies").mkdir()
    for name, fill in (("demo", "linear"), ("demo-paper", "mean")):
        (tmp_path / name).mkdir()
        study = studies.write_small_study(tmp_path / name).changed(
            masking={"fills": [fill]}, factors={"seed": [1, 2]}
        )
        text = study.path.read_text().replace("name: small", f"name: {name}")
        for kind in ("npz", "manifest"):
            text = text.replace(f"{kind}:", f"{kind}:../{name}/")
        (tmp_path / "studies" / f"{name}.yaml").write_text(text)
        plan = make_plan(tmp_path / "studies" / f"{name}.yaml")
        store = Store(str(tmp_path / "results" / name))
        simulate(plan, store)
        write_files(store, {STUDY: plan.source, INDEX: index_of_study(plan)})
    return tmp_path


def test_the_page_on_numbers_does_what_it_says(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "numbers.md"
    typed = commands(page)
    assert [words[0] for words in typed] == ["query", "query", "sql", "export", "compare"]
    for words in typed:
        done = studies.sweep(*words, cwd=place)  # without a terminal, `sweep sql` ends at once
        assert done.returncode == 0, (words, done.stderr)
    named = re.findall(r"^\| `([\w./-]+)`", (place / "demo-export" / "README.md").read_text(), re.MULTILINE)
    there = {
        path.relative_to(place / "demo-export").as_posix() for path in (place / "demo-export").rglob("*.*")
    }
    for pattern in named:
        assert any(re.fullmatch(re.sub("TABLE|MODEL", r"[\\w-]+", pattern), path) for path in there), pattern
    monkeypatch.chdir(place)
    for example in blocks(page, "python"):
        exec(compile(example, str(page), "exec"), {"sweep": sweep})


def test_the_start_page_leads_from_pictures_to_a_plan(tmp_path: Path) -> None:
    for person in ("anna", "ben"):
        (tmp_path / "my-faces" / person).mkdir(parents=True)
        for index in range(1, 5):
            pixels = np.random.default_rng([len(person), index]).integers(0, 256, (112, 112), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my-faces" / person / f"{index}.png")
    typed = [words for words in commands(ROOT / "docs" / "index.md") if words[0] in ("new", "plan", "run")]
    assert typed == [["new", "my-faces"], ["plan", "my-faces.yaml"], ["run", "my-faces.yaml"]]
    for words in (typed[0], [*typed[1], "--no-time"]):  # that `sweep run` does it is tested elsewhere
        done = studies.sweep(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_the_completion_lines_print_a_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for shell in re.findall(r"_SWEEP_COMPLETE=(\w+) sweep", (ROOT / "docs" / "install.md").read_text()):
        monkeypatch.setenv("_SWEEP_COMPLETE", shell)
        done = studies.sweep(cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "_SWEEP_COMPLETE" in done.stdout
    monkeypatch.setenv("_SWEEP_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "sweep exp")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert studies.sweep(cwd=tmp_path).stdout == "plain,export\n"


def test_generated_pages_tell_every_command_setting_column_and_query() -> None:
    pages = docs_pages.pages()
    for name in cli.commands:
        assert f"## sweep {name}\n" in pages["reference/commands.md"]
    for key in ("percents", "granularity", "control_draws", "validation_fraction", "composite"):
        assert f"| `{key}` |" in pages["reference/study-file.md"]
    for name in set(sweep.__all__) - {"lrp"}:
        assert f"## {name}\n" in pages["reference/python.md"]
    for table in ("images", "masked", "transfer (export)"):
        assert f"## {table}\n" in pages["reference/tables.md"]
    assert "## anova_source\n" in pages["reference/sql.md"]
    # Every setting has a word of explanation.
    empty = [
        line for line in pages["reference/study-file.md"].splitlines() if re.fullmatch(r"\| `.*\|\s*\|", line)
    ]
    assert empty == []


def test_the_navigation_names_every_page_once() -> None:
    yaml = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r": ([\w/-]+\.md)$", yaml, re.MULTILINE)
    assert len(named) == len(set(named))
    generated = set(docs_pages.pages())
    assert generated <= set(named)
    for path in set(named) - generated:
        assert (ROOT / "docs" / path).is_file()
