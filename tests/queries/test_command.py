"""`sweep query` as it is typed: its formats, its settings, and which study it asks."""

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from sweep.analysis.queries import list_queries, run_query
from tests.queries.simulated import Study, factorial, write
from tests.studies import SWEEP, sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of one study, as `sweep run` leaves them."""
    folder = tmp_path_factory.mktemp("asked")
    write(Study(factorial(2, 1, 3)), folder / "results" / "one")
    (folder / "results" / "one" / "study.yaml").write_text("name: one\n")
    return folder


def read_csv(output: bytes, schema: pa.Schema) -> pa.Table:
    """CSV has no types: an empty text and a missing number look alike."""
    options = pa.csv.ConvertOptions(column_types=schema, strings_can_be_null=False)
    return pa.csv.read_csv(io.BytesIO(output), convert_options=options)


FORMATS: dict[str, Callable[[bytes, pa.Schema], pa.Table]] = {
    "csv": read_csv,
    "json": lambda output, schema: pa.Table.from_pylist(json.loads(output), schema),
    "parquet": lambda output, _: pa.parquet.read_table(io.BytesIO(output)),
}


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_holds_the_answer(form: str, folder: Path) -> None:
    done = subprocess.run(
        [SWEEP, "query", "auc", "--format", form],
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert not done.stderr
    expected = run_query("auc", str(folder / "results" / "one"))
    got = FORMATS[form](done.stdout, expected.schema)
    # Every column and every digit of every number.
    assert got.equals(expected)


def test_the_table_has_a_line_per_row(folder: Path) -> None:
    done = sweep("query", "anova_initialisation", "--set", "auc_axis=linear", cwd=folder)
    answer = run_query("anova_initialisation", str(folder / "results" / "one"), {"auc_axis": "linear"})
    header, *lines = done.stdout.splitlines()
    assert header.split() == answer.column_names
    for line, row in zip(lines, answer.to_pylist(), strict=True):
        assert f"{row['p']:.4g}" in line.split()


def test_the_list_tells_every_question_and_its_settings(folder: Path) -> None:
    shown = sweep("query", "--list", cwd=folder).stdout.splitlines()
    for query, line in zip(list_queries(), shown, strict=True):
        assert line.split()[0] == query.name
        assert query.question in line
        assert all(setting in line.rpartition("[")[2] for setting in query.parameters)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["auc", "--study", "two"], "results/two holds no results with an index"),
        (["bins", "--set", "draws"], "--set draws: write it as NAME=VALUE"),
        (["bins", "--set", "axis=log"], "query 'bins' has no parameter axis; it takes: draws, draw_seed"),
        (["auc", "--results", "elsewhere"], "--results elsewhere: holds no study"),
        (["auc", "--format", "xlsx"], "'xlsx'"),
    ],
)
def test_wrong_input_is_told(arguments: list[str], said: str, folder: Path) -> None:
    done = sweep("query", *arguments, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_of_several_studies_one_must_be_named(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / name).symlink_to(folder / "results" / "one")
    done = sweep("query", "auc", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds one, two; say which with --study" in done.stderr
    assert sweep("query", "auc", "--study", "two", cwd=tmp_path).returncode == 0
