"""SQL of the user's own: `sweep query --sql` only reads, and `sweep sql` has the study's views in either shell."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweep.analysis.queries import run_query
from sweep.analysis.sql import run_sql
from sweep.cli import sql as shells
from sweep.cli.commands import cli
from sweep.errors import InputError, WorkError
from tests.queries.simulated import Study, factorial, write
from tests.studies import SWEEP, sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of one study, as `sweep run` leaves them."""
    folder = tmp_path_factory.mktemp("it's asked")
    write(Study(factorial(2, 1, 3)), folder / "results" / "one")
    (folder / "results" / "one" / "study.yaml").write_text("name: one\n")
    return folder


@pytest.fixture
def results(folder: Path) -> str:
    return str(folder / "results" / "one")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pretraining, count(*) AS models FROM models GROUP BY pretraining ORDER BY pretraining",
        "FROM models SELECT pretraining, count(*) AS models GROUP BY ALL ORDER BY 1;",
        "WITH m AS (FROM models) SELECT pretraining, count(*) AS models FROM m GROUP BY ALL ORDER BY 1",
    ],
)
def test_a_statement_sees_the_views(statement: str, results: str) -> None:
    assert run_sql(statement, results).to_pylist() == [
        {"pretraining": "pre0", "models": 3},
        {"pretraining": "pre1", "models": 3},
    ]


def test_an_area_by_hand_is_that_of_the_query(results: str) -> None:
    statement = """
        WITH inner_levels AS (
            SELECT source_id, destination_id, log10(percent) AS x, correct / n AS y
            FROM accuracy WHERE control = 'none' AND percent > 0 AND percent < 100
        ), steps AS (
            SELECT *, lag(x) OVER w AS x0, lag(y) OVER w AS y0
            FROM inner_levels WINDOW w AS (PARTITION BY source_id, destination_id ORDER BY x)
        )
        SELECT source_id, destination_id, sum((x - x0) * (y + y0) / 2) / (max(x) - min(x)) AS auc
        FROM steps GROUP BY ALL
    """
    areas = {(r["source_id"], r["destination_id"]): r["auc"] for r in run_sql(statement, results).to_pylist()}
    told = [r for r in run_query("auc", results).to_pylist() if not r["source_id"].startswith("random")]
    assert len(told) == len(areas) == 36
    for row in told:
        assert areas[row["source_id"], row["destination_id"]] == pytest.approx(row["auc_log"], abs=1e-12)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("COPY (FROM models) TO 'written.csv'", "of the kind COPY, and only SELECT is taken"),
        ("EXPORT DATABASE 'written'", "of the kind EXPORT"),
        ("CREATE TABLE written AS FROM models", "of the kind CREATE"),
        ("ATTACH 'written.db' AS w", "of the kind ATTACH"),
        ("INSTALL httpfs", "of the kind LOAD"),
        ("LOAD httpfs", "of the kind LOAD"),
        ("SET threads = 1", "of the kind"),
        ("EXPLAIN ANALYZE COPY (FROM models) TO 'written.csv'", "of the kind EXPLAIN"),
        ("SELECT 1; COPY (FROM models) TO 'written.csv'", "holds 2 statements"),
        ("", "holds 0 statements"),
        ("SELEKT 1", "syntax error"),
        ("SELECT * FROM nothing", "nothing"),
        ("SELECT none FROM models", "none"),
        ("SELECT * FROM enable_logging(storage = 'file', storage_path = 'written')", "locked"),
        ("SELECT * FROM query('COPY (FROM models) TO ''written.csv''')", "SELECT"),
        ("SELECT * FROM read_xlsx('x.xlsx')", "extension"),
        ("SELECT correct + 'x' FROM masked", "--sql: "),
    ],
)
def test_what_does_not_only_read_is_one_line_and_leaves_nothing(
    statement: str, said: str, results: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        run_sql(statement, results)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_fails_while_it_runs_is_one_line(results: str) -> None:
    with pytest.raises(WorkError, match=r"^--sql failed: .*[Oo]verflow"):
        run_sql("SELECT seed::TINYINT * 100::TINYINT FROM models", results)


def test_the_command_takes_a_study_by_file_name_or_folder(folder: Path) -> None:
    (folder / "studies").mkdir()
    study = folder / "studies" / "mine.yaml"
    study.write_text(
        "name: one\ndataset: {source: 'bundled:heads', input_size: 64}\n"
        "factors: {pretraining: {a: 'random:1'}, task: [identity], seed: [1, 2]}\n"
    )
    statement = "SELECT model_id, seed FROM models ORDER BY model_id"
    expected = run_sql(statement, str(folder / "results" / "one")).to_pylist()
    for named in (["studies/mine.yaml"], ["one"], ["results/one"], [], ["--study", "one"]):
        done = sweep("query", *named, "--sql", statement, "--format", "json", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == expected
    done = sweep("query", "two", "--sql", statement, cwd=folder)
    assert done.returncode == 2
    assert "two: is no study file (.yaml), no folder with results, and no study under results" in done.stderr
    assert "which holds one" in done.stderr
    done = sweep("query", "one", "--sql", statement, "--set", "draws=1", cwd=folder)
    assert done.returncode == 2
    assert "--set: is for the variables of a named query" in done.stderr


def test_the_stand_alone_shell_opens_with_the_views(folder: Path) -> None:
    script = ".mode csv\nSELECT task, count(*) AS models FROM models GROUP BY task;\n"
    done = subprocess.run(
        [SWEEP, "sql", "one"],
        cwd=folder,
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    assert list(csv.reader(done.stdout.splitlines())) == [["task", "models"], ["identity", "6"]]


def test_our_own_prompt_takes_statements_and_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(shells, "_shell", lambda: None)
    script = "SELECT task,\n  count(*) AS models\nFROM models GROUP BY task;\n.read auc\nSELECT count(*) AS areas FROM auc;\n"
    done = CliRunner().invoke(cli, ["sql", "one"], input=script)
    assert done.exit_code == 0, done.output
    assert ["identity", "6"] in [line.split() for line in done.output.splitlines()]
    assert done.output.splitlines()[-1].strip() == "48"
    wrong = CliRunner().invoke(
        cli, ["sql", "one"], input="FROM nothing;\n.read nothing\nSELECT 41 + 1 AS n;\n.quit\n"
    )
    assert isinstance(wrong.exception, WorkError)
    assert "nothing does not exist" in wrong.output
    assert "no SQL file is called 'nothing'; there are: accuracy_curves" in wrong.output
    assert wrong.output.splitlines()[-1].strip() == "42"
