"""The notebooks run from top to bottom on a study that was really run, and are kept without outputs.

The same study serves for the SQL files in the stand-alone shell: real tables, and a factor beyond the paper's.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from sweep.analysis.queries import list_queries, run_query
from sweep.plan import make_plan
from sweep.stages import stages_of
from sweep.storage.store import Store
from tests.in_process import run_in_process
from tests.studies import sweep, write_small_study

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STRICT = """
import warnings
warnings.simplefilter("error")
# The kernel's own, at its end; no fault of a notebook.
warnings.filterwarnings("ignore", category=PendingDeprecationWarning, module="ipykernel")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished study of eight models, 2 backbones x 1 task x 2 seeds x 2 schedules: its tables, what was printed."""
    folder = tmp_path_factory.mktemp("notebooks")
    study = write_small_study(folder)
    schedule = {"short": {"epochs": 2}, "long": {"epochs": 4}}
    attribution = {"lrp": "preset_a_flat", "gradient": "gradient"}
    study.changed(factors={"task": ["identity"], "schedule": schedule, "attribution": attribution})
    run_in_process(make_plan(study.path), Store(str(folder / "results" / "small")))
    done = sweep("run", study.path, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "results" / "small", done.stdout


@pytest.fixture
def results(run: tuple[Path, str]) -> Path:
    return run[0]


def executed(name: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A notebook after running it with warnings as errors; a cell that fails raises."""
    monkeypatch.setenv("SWEEP_RESULTS", str(results))
    monkeypatch.delenv(
        "MPLBACKEND", raising=False
    )  # the kernel's own choice; the command sets another in its process
    # The package may be installed from elsewhere; the notebook must see the one under test.
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), path])))
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
    folder = {"metadata": {"path": str(ROOT / "notebooks")}}
    return NotebookClient(
        notebook, timeout=300, startup_timeout=180, kernel_name="python3", resources=folder
    ).execute()


def printed(notebook: Any) -> str:
    """Everything that the cells printed or showed as text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(
        # A wide table is broken into pieces as text, but whole as HTML.
        output.text
        if output.output_type == "stream"
        else output.data.get("text/html") or output.data.get("text/plain", "")
        for output in outputs
    )


def figures(notebook: Any) -> int:
    """How many pictures it drew."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_four() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "01_first_look",
        "02_paper_figures",
        "03_your_own_factors",
        "04_attributions_and_depths",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_stripped(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    remedy = f"strip it: nbstripout notebooks/{path.name}"
    for cell in notebook.cells:
        assert not cell.metadata, remedy
        if cell.cell_type == "code":
            assert cell.outputs == [], remedy
            assert cell.execution_count is None, remedy
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert 'results = os.environ.get("SWEEP_RESULTS", "../results/' in first


def test_the_first_look(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed("01_first_look", results, monkeypatch)
    shown = printed(notebook)
    assert figures(notebook) == 4
    assert re.search(rf"<th>masked</th>\s*<td>{9 * 8 * 5 * 6}</td>", shown)
    for query in list_queries():
        assert query.question in shown


def test_the_papers_figures(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed("02_paper_figures", results, monkeypatch)
    shown = printed(notebook)
    assert figures(notebook) == 2
    for query in ("anova_initialisation", "anova_source"):
        for row in run_query(query, str(results)).to_pylist():
            said = (
                f"F({row['df']}, {row['df_error']}) = {row['f']:.4g}, p = {row['p']:.2g}"
                if row["f"] is not None
                else row["note"]
            )
            assert said in shown


def test_a_factor_of_ones_own(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed("03_your_own_factors", results, monkeypatch)
    shown = printed(notebook)
    assert figures(notebook) == 1
    assert "Factors of its own: schedule" in shown
    assert "other_schedule, same_init, same_task_same_pretraining" in shown
    for words in ("other_pretraining_schedule", "schedule=short", "[long, short]"):
        assert words in shown


def test_attributions_and_depths(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed("04_attributions_and_depths", results, monkeypatch)
    shown = printed(notebook)
    assert figures(notebook) == 1
    assert "Attributions: lrp, gradient" in shown
    assert "Factors of training: schedule" in shown
    for words in ("By level of schedule", "schedule=short", "other_schedule", "transfer_low"):
        assert words in shown


def test_a_run_from_a_notebook_shows_a_line_per_stage_and_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_small_study(tmp_path).changed(factors={"task": ["identity"], "seed": [1]})
    run, report = (
        nbformat.v4.new_code_cell(code)
        for code in ("import sweep\nresult = sweep.run('study.yaml')", "result.report()")
    )
    notebook = nbformat.v4.new_notebook(cells=[run, report])
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=400, kernel_name="python3", resources=folder).execute()
    # Tune would clear the cell, and Ray ask for packages.
    shown = [output.data["text/plain"].split(",")[0] for output in run.outputs]
    counts = {
        name: len(stage.units(make_plan(tmp_path / "study.yaml")))
        for name, stage in stages_of(make_plan(tmp_path / "study.yaml")).items()
    }
    stages = [f"{name}: {count}/{count}" for name, count in counts.items()]
    assert shown == ["Starting Ray on this machine.\n", *stages, "report: 1/1"]
    assert report.outputs[0].data["text/html"].startswith("<iframe srcdoc=")


def test_a_run_prints_the_tests_of_every_level_of_a_further_factor(run: tuple[Path, str]) -> None:
    results, output = run
    for row in run_query("anova_initialisation", str(results)).to_pylist():
        assert f"{row['task']}, {row['extra']}: {row['effect']} " in output


@pytest.mark.parametrize("query", list_queries(), ids=lambda query: query.name)
def test_every_sql_file_answers_in_the_shell(query: Any, results: Path) -> None:
    known = {known.name: known for known in list_queries()}
    # What a file needs may need another: auc.sql comes first.
    needed = {*query.needs, *(deeper for name in query.needs for deeper in known[name].needs)}
    order = ["functions", "views", *sorted(needed, key=lambda name: (name != "auc", name))]
    script = f"SET VARIABLE results = '{results}';\n.mode csv\n.output /dev/null\n"
    script += "".join(f".read {ROOT}/queries/{name}.sql\n" for name in order)
    script += f".output\n.read {query.path}\n"
    shell = shutil.which("duckdb", path=str(Path(sys.executable).parent))
    assert shell, "the stand-alone shell comes with the development requirements (duckdb-cli)"
    done = subprocess.run([shell], input=script, capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    assert len(done.stdout.splitlines()) == run_query(query.name, str(results)).num_rows + 1
