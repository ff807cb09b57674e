"""Finding the SQL files, their headers, parameters and errors; and the same answers in the stand-alone shell."""

import csv
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sweep.analysis.queries
from sweep.analysis.queries import QuerySession, list_queries, run_query
from sweep.errors import InputError, WorkError
from sweep.storage.index import INDEX
from tests.queries.simulated import Study, factorial, write
from tests.queries.simulated_human import write_human

SQL = Path(__file__).parents[2] / "queries"
NAMES = [query.name for query in list_queries()]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("it's a study")
    write(
        Study(factorial(2, 2, 3), controls={"reversed": 1, "randomized": 3}, attributions=["gradient"]),
        folder,
    )
    write_human(folder, np.random.default_rng(0).integers(0, 2, (6, 12)).astype(np.float64))
    return folder


def shell() -> str:
    found = shutil.which("duckdb", path=str(Path(sys.executable).parent))
    assert found, "the stand-alone shell comes with the development requirements (duckdb-cli)"
    return found


def test_every_file_is_a_query_or_part_of_the_preamble() -> None:
    assert {path.stem for path in SQL.glob("*.sql")} == {*NAMES, "functions", "views"}
    assert {"accuracy_curves", "auc", "bins", "anova_initialisation", "anova_source", "pairwise"} <= set(
        NAMES
    )
    assert {"effect_sizes", "map_similarity", "rank2"} <= set(NAMES)
    assert {"human_preference", "human_targets", "human_agreement", "human_models", "human_transfer"} <= set(
        NAMES
    )
    assert {"equivalence", "error_consistency", "logit_curves", "specific_loss", "srg", "transfer"} <= set(
        NAMES
    )


@pytest.mark.parametrize("query", list_queries(), ids=NAMES)
def test_a_header_tells_what_the_answer_holds(query: sweep.analysis.queries.Query, root: Path) -> None:
    assert query.question.endswith("?")
    assert query.paper
    assert query.reads
    columns = run_query(query.name, str(root)).column_names
    untold = [column for column in columns if column not in query.returns]
    assert not untold


@pytest.mark.parametrize("query", list_queries(), ids=NAMES)
def test_the_shell_gives_the_same_answer(query: sweep.analysis.queries.Query, root: Path) -> None:
    assert_shell_agrees(query, root)


def test_the_shell_reads_counts_per_cell(tmp_path: Path) -> None:
    write(Study(factorial(2, 2, 2), granularity="cell"), tmp_path)
    (auc,) = (query for query in list_queries() if query.name == "auc")
    assert_shell_agrees(auc, tmp_path)


def assert_shell_agrees(query: sweep.analysis.queries.Query, root: Path) -> None:
    """Run the files in the stand-alone shell as a user would, and compare with the answer in Python."""
    order = ["functions", "views", "auc"] if query.name != "auc" else ["functions", "views"]
    order += [needed for needed in query.needs if needed != "auc"]
    script = "SET VARIABLE results = '" + str(root).replace("'", "''") + "';\n"
    script += ".mode csv\n.headers on\n.nullvalue NULL\n.output /dev/null\n"
    script += "".join(f".read {SQL / name}.sql\n" for name in order)
    script += f".output\n.read {SQL / query.name}.sql\n"
    done = subprocess.run([shell()], input=script, capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    header, *rows = list(csv.reader(done.stdout.splitlines()))
    table = run_query(query.name, str(root))
    assert header == table.column_names
    assert len(rows) == table.num_rows
    for name, column in zip(header, zip(*rows, strict=True), strict=True):
        python = table[name].to_pylist()
        if pa.types.is_floating(table.schema.field(name).type):
            shown = [np.nan if text == "NULL" else float(text) for text in column]
            given = [np.nan if value is None else value for value in python]
            np.testing.assert_allclose(shown, given, rtol=1e-9, atol=1e-12, err_msg=name)
        else:
            assert list(column) == [
                "NULL" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
                for value in python
            ]


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("anova", {}, "no query is called 'anova'; there are: accuracy_curves, anova_initialisation"),
        ("views", {}, "no query is called 'views'"),
        ("../views", {}, "no query is called"),
        ("bins", {"drawz": 3}, "query 'bins' has no parameter drawz; it takes: draws, draw_seed"),
        ("map_similarity", {"draws": 3}, "query 'map_similarity' has no parameter draws; it takes: none"),
        ("bins", {"draws": 0}, "draws must be at least 1"),
        ("bins", {"draws": "many"}, "'many'"),
        ("bins", {"draws": "1; DROP TABLE auc"}, "DROP TABLE"),
        ("accuracy_curves", {"per": "model"}, "per is 'model' but must be one of: condition, destination"),
        ("transfer", {"per": "model"}, "per is 'model' but must be one of: bin, pair"),
        ("transfer", {"resamples": 1}, "resamples must be at least 10"),
        ("equivalence", {"bound": 0}, "bound must be above 0"),
        ("equivalence", {"bound": "much"}, "'much'"),
        ("bins", {"fill": "gray"}, "fill is 'gray' but the fills of this study are: linear"),
        ("pairwise", {"measure": "loss"}, "measure is 'loss' but must be one of: auc, specific_loss"),
        (
            "pairwise",
            {"measure": "specific_loss", "control": "mean_map"},
            "control is 'mean_map' but the controls of this study are: randomized, reversed, scattered",
        ),
        ("pairwise", {"auc_axis": "cubic"}, "auc_axis is 'cubic' but must be one of: log, linear"),
        (
            "anova_source",
            {"compare": "same_init,rnd"},
            "compare is 'same_init,rnd' but the bins of this study",
        ),
    ],
)
def test_wrong_input_is_one_clear_line(
    root: Path, name: str, parameters: dict[str, str | int], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        run_query(name, str(root), parameters)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_connection_of_ones_own_keeps_the_views_and_forgets_settings(root: Path) -> None:
    with duckdb.connect(config={"threads": 1}) as connection:
        few = run_query("bins", str(root), {"draws": 7}, connection)
        assert set(few["n_draws"].to_pylist()) == {7}
        assert connection.execute("SELECT count(*) FROM models").fetchone() == (12,)
        assert connection.execute("SELECT count(*) FROM bin_auc").fetchone() == (len(few),)
        again = run_query("bins", str(root), connection=connection)
        assert set(again["n_draws"].to_pylist()) == {100}
        assert again.sort_by("destination_id")["seed"].equals(few.sort_by("destination_id")["seed"])
        assert run_query("anova_source", str(root), connection=connection).num_rows


SETTINGS: list[tuple[str, dict[str, str | int]]] = [
    ("bins", {"draws": 7}),
    ("bins", {}),
    ("anova_source", {"measure": "specific_loss", "control": "scattered"}),
    ("anova_source", {}),
    ("transfer", {"draw_seed": 3, "resamples": 20}),
    ("pairwise", {"auc_axis": "linear"}),
    ("transfer", {"resamples": 20, "per": "pair"}),
    ("human_preference", {"fastest": 10}),
    ("transfer", {"resamples": 20}),
    ("human_preference", {}),
]


def test_queries_of_one_session_answer_as_each_alone(root: Path) -> None:
    alone = [run_query(name, str(root), settings) for name, settings in SETTINGS]
    with closing(QuerySession(str(root))) as session:
        for order in (SETTINGS, SETTINGS[::-1]):
            for name, settings in order:
                with pytest.raises(InputError):
                    session.run("auc", {"fill": "none such"})
                found, expected = session.run(name, settings), alone[SETTINGS.index((name, settings))]
                for column in expected.column_names:
                    one, other = (table[column].to_pandas() for table in (found, expected))
                    # The order of a sum may change its last digits, and ratios of small sums more.
                    if one.dtype == float:
                        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9, err_msg=column)
                    else:
                        assert one.equals(other), column


def test_masked_is_read_once_in_a_session_and_anew_with_the_views(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for seed, folder in enumerate((one, other)):
        write(Study(factorial(2, 1, 2), seed=seed), folder)

    def areas(answer: pa.Table) -> list[float]:
        return sorted(answer["auc_log"].to_pylist())

    of_one, of_other = (areas(run_query("auc", str(folder))) for folder in (one, other))
    assert of_one != of_other
    with duckdb.connect() as connection:
        with closing(QuerySession(str(one), connection)) as session:
            session.run("specific_loss")
            counted = connection.sql("FROM mask_accuracy ORDER BY ALL").to_arrow_table()
            shutil.copytree(other / "masked", one / "masked", dirs_exist_ok=True)
            np.testing.assert_allclose(areas(session.run("auc")), of_one)
            assert connection.sql("FROM mask_accuracy ORDER BY ALL").to_arrow_table().equals(counted)
        # On the same connection, with what the session has left.
        np.testing.assert_allclose(areas(run_query("auc", str(one), connection=connection)), of_other)


def test_the_preamble_takes_up_what_the_session_knows_that_it_does() -> None:
    text = "".join((SQL / f"{name}.sql").read_text() for name in sweep.analysis.queries.PREAMBLE)
    outside_of_views = re.sub(
        r"CREATE OR REPLACE (VIEW|MACRO) .*?;$", "", text, flags=re.DOTALL | re.MULTILINE
    )
    parameters = {name for query in list_queries() for name in query.parameters}
    taken = {name for name in parameters if f"'{name}'" in outside_of_views}
    assert taken == set(sweep.analysis.queries.IN_PREAMBLE)


def test_a_missing_table_is_named_with_the_remedy(root: Path, tmp_path: Path) -> None:
    for table in ("models", "similarity"):
        shutil.copytree(root / table, tmp_path / table)
    shutil.copy(root / INDEX, tmp_path)
    assert run_query("map_similarity", str(tmp_path)).num_rows
    with pytest.raises(InputError, match=r"'masked'.*no files.*sweep run"):
        run_query("auc", str(tmp_path))
    with pytest.raises(InputError) as caught:
        run_query("rank2", str(tmp_path))
    assert len(caught.value.problems) == 2


def test_a_broken_file_is_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    (tmp_path / "masked" / "part-0.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"query 'auc': .*masked/part-0\.parquet"):
        run_query("auc", str(tmp_path))


def test_a_query_that_fails_is_one_line(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "masked").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(["correct"]), path)
    with pytest.raises(WorkError, match=r"query 'auc' failed: .*correct") as caught:
        run_query("auc", str(tmp_path))
    assert len(str(caught.value).splitlines()) == 1


def test_the_shell_names_a_missing_table(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "models", tmp_path / "models")
    shutil.copy(root / INDEX, tmp_path)
    script = f"SET VARIABLE results = '{tmp_path}';\n.read {SQL}/functions.sql\n.read {SQL}/views.sql\n"
    done = subprocess.run(
        [shell()],
        input=script + "FROM models;\nFROM masked;\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "pre0-identity-s1" in done.stdout
    assert "table masked has no files" in done.stderr
    assert "sweep run" in done.stderr


def test_files_of_an_installed_wheel(monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "sweep"
    shutil.copytree(SQL, package / "_sql")
    monkeypatch.setattr(sweep.analysis.queries, "__file__", str(package / "analysis" / "queries.py"))
    assert [query.path.parent for query in list_queries()] == [package / "_sql"] * len(NAMES)
    assert run_query("auc", str(root)).num_rows
    shutil.rmtree(package / "_sql")
    with pytest.raises(InputError, match="SQL files are missing"):
        list_queries()


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, sweep.analysis.queries; print(*sorted({'ray', 'mlflow', 'tensorflow', 'keras'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
