"""The SQL files of the project, and how to run one from Python.

A file of `queries/` runs in the stand-alone DuckDB shell as it is. This module finds the files, reads what each
answers from its header comment, checks that the tables it reads exist, and binds parameters as DuckDB variables.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from sweep.errors import InputError, WorkError
from sweep.storage.files import for_fsspec
from sweep.storage.index import INDEX

Value = str | int | float | bool
"""What a parameter can be bound to."""

PREAMBLE = ("functions", "views")
"""Files without an answer of their own, read before any other."""


@dataclass(frozen=True)
class Query:
    """One SQL file and what its header says."""

    name: str
    """File name without `.sql`."""
    question: str
    """The question it answers."""
    returns: str
    """The columns of its answer and what they mean."""
    paper: str
    """The sentence or figure of the paper it stands for."""
    reads: tuple[str, ...]
    """Tables whose files must exist."""
    needs: tuple[str, ...]
    """Queries that must have run before it in the same session."""
    parameters: tuple[str, ...]
    """Names of the variables that change its answer."""
    path: Path
    """Where the file is."""


def list_queries() -> list[Query]:
    """All queries that give an answer, by name."""
    paths = sorted(folder().glob("*.sql"))
    return [_described(path) for path in paths if path.stem not in PREAMBLE]


def run_query(
    name: str,
    results: str,
    parameters: Mapping[str, Value] | None = None,
    connection: duckdb.DuckDBPyConnection | None = None,
    index: bytes | None = None,
) -> pa.Table:
    """Run one SQL file on the tables of a study.

    Args:
        name: a name from `list_queries`.
        results: folder or address (`s3://...`) of the tables of a study.
        parameters: values of the query's parameters; each is bound as a DuckDB variable, never pasted into SQL.
        connection: a DuckDB connection of the caller's, with limits of its own; afterwards it has the views of
            `queries/views.sql` and what the query leaves, for further SQL. By default a new one, closed again.
        index: an index (`sweep.storage.index`) of the files that the study consists of. By default the one among the
            results, which is that of the last run.

    Returns:
        The answer of the file's last statement; the header of the file tells the columns.

    Raises:
        InputError: for an unknown query or parameter, a value that cannot be used, or a table without files.
        WorkError: when the query itself fails.
    """
    known = {query.name: query for query in list_queries()}
    if name not in known:
        raise InputError(f"no query is called {name!r}; there are: {', '.join(known)}")
    query = known[name]
    chosen = dict(parameters or {})
    unknown = sorted(set(chosen) - set(query.parameters))
    if unknown:
        takes = ", ".join(query.parameters) or "none"
        raise InputError(f"query {name!r} has no parameter {', '.join(unknown)}; it takes: {takes}")

    variables = {
        parameter: chosen.get(parameter) for other in known.values() for parameter in other.parameters
    }
    with told(f"query {name!r}"), opened(results, connection, index, variables) as session:
        _require_tables(session, query, results)
        for stem in _order(query, known):
            answer = execute(session, text_of(stem))
    return answer


@contextmanager
def opened(
    results: str,
    connection: duckdb.DuckDBPyConnection | None = None,
    index: bytes | None = None,
    variables: Mapping[str, Value | None] | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with the views of `queries/views.sql` over the tables of a study.

    The arguments are those of `run_query`; `variables` are bound before the views are made. What DuckDB raises is
    passed on: see `told`.
    """
    with (
        nullcontext(connection) if connection else duckdb.connect(":memory:") as session,
        tempfile.TemporaryDirectory(prefix="sweep-") as temporary,
    ):
        if "://" in results and not session.filesystem_is_registered(results.partition("://")[0]):
            # Read by the file system that wrote the tables, so that no DuckDB extension need be fetched.
            session.register_filesystem(for_fsspec(results))
        session.execute("SET VARIABLE results = ?", [results.rstrip("/")])
        own = None if index is None else Path(temporary, INDEX)
        if own and index:
            own.write_bytes(index)
        session.execute("SET VARIABLE index = ?", [own and str(own)])
        for name, value in (variables or {}).items():
            # The name comes from a file's own header, the value goes in as a bound parameter. Without a value it is
            # NULL, so that the settings of an earlier query on the same connection are forgotten.
            session.execute(f"SET VARIABLE {name} = ?", [value])
        for stem in PREAMBLE:
            execute(session, text_of(stem))
        yield session


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn what DuckDB raises into an InputError or a WorkError of one line that opens with `what`."""
    try:
        yield
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise InputError(f"{what}: {_first_line(error)}") from error
    except duckdb.Error as error:
        raise WorkError(f"{what} failed: {_first_line(error)}") from error
    except RuntimeError as error:
        if "interrupted" in str(error):  # DuckDB's word for Ctrl-C
            raise KeyboardInterrupt from None
        raise


def text_of(stem: str) -> str:
    """The SQL of a file of `queries/`, by its name without `.sql`."""
    return (folder() / f"{stem}.sql").read_text(encoding="utf-8")


def folder() -> Path:
    """The SQL files: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "_sql", package.parent / "queries"):
        if (place / "views.sql").is_file():
            return place
    raise InputError(
        f"the SQL files are missing: neither {package / '_sql'} nor queries/ has them; reinstall"
    )


def _described(path: Path) -> Query:
    fields = _header(path.read_text(encoding="utf-8"))
    return Query(
        name=path.stem,
        question=fields["question"],
        returns=fields["returns"],
        paper=fields["paper"],
        reads=_names(fields["reads"]),
        needs=_names(fields.get("needs", "none")),
        parameters=_names(fields["parameters"]),
        path=path,
    )


def _header(text: str) -> dict[str, str]:
    """The fields of the opening comment: `-- Field: text`, continued by lines that are indented further."""
    fields: dict[str, str] = {}
    field = ""
    for line in text.splitlines():
        if not line.startswith("-- "):
            break
        started = re.match(r"-- ([A-Z][a-z]+): (.*)", line)
        if started:
            field = started[1].lower()
            fields[field] = started[2].strip()
        elif field:
            fields[field] += " " + line[2:].strip()
    return fields


def _names(listed: str) -> tuple[str, ...]:
    return () if listed == "none" else tuple(name.strip() for name in listed.split(","))


def _order(query: Query, known: Mapping[str, Query]) -> Iterator[str]:
    """The queries that must run, each once and after those it needs; `query` itself comes last."""
    done: set[str] = set()

    def visit(one: Query) -> Iterator[str]:
        for needed in one.needs:
            yield from visit(known[needed])
        if one.name not in done:
            done.add(one.name)
            yield one.name

    yield from visit(query)


def _require_tables(connection: duckdb.DuckDBPyConnection, query: Query, results: str) -> None:
    missing = [
        table for table in query.reads if connection.execute("SELECT lacks(?)", [table]).fetchall()[0][0]
    ]
    if missing:
        raise InputError(
            *(
                f"query {query.name!r} reads the table {table!r}, which has no files under {results}; "
                "finish the study with: sweep run"
                for table in missing
            )
        )


def execute(connection: duckdb.DuckDBPyConnection, text: str) -> pa.Table:
    """Run all statements of a file and return the answer of the last one."""
    *before, last = connection.extract_statements(text)
    for statement in before:
        connection.execute(statement)
    if last.type != duckdb.StatementType.SELECT:
        connection.execute(last)
        return pa.table({})
    return connection.sql(last.query).to_arrow_table()


def _first_line(error: duckdb.Error) -> str:
    """What went wrong, without the class of the error that DuckDB puts in front, and without the SQL after it."""
    return str(error).splitlines()[0].removeprefix("Invalid Input Error: ").removeprefix("Conversion Error: ")
