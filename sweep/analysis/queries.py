"""The SQL files of the project, and how to run one from Python.

A file of `queries/` runs in the stand-alone DuckDB shell as it is. This module finds the files, reads what each
answers from its header comment, checks that the tables it reads exist, and binds parameters as DuckDB variables.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
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
IN_PREAMBLE = ("attribution", "draws", "draw_seed")
"""Parameters that those files take up when they are read, and not when a view of theirs is used."""


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
    with closing(QuerySession(results, connection, index)) as session:
        return session.run(name, parameters)


class QuerySession:
    """Queries on the tables of one study, one after the other on one connection; what they share is computed once.

    Close it in the end. The arguments are those of `run_query`; a connection of the caller's is left open.
    """

    def __init__(
        self,
        results: str,
        connection: duckdb.DuckDBPyConnection | None = None,
        index: bytes | None = None,
    ) -> None:
        self._results = results.rstrip("/")
        self._known = {query.name: query for query in list_queries()}
        self._read_with: Mapping[str, Value | None] | None = None
        """Values of IN_PREAMBLE when the preamble was read last."""
        with ExitStack() as stack:
            self.connection = connection or stack.enter_context(duckdb.connect(":memory:"))
            if "://" in results and not self.connection.filesystem_is_registered(results.partition("://")[0]):
                # Read by the file system that wrote the tables, so that no DuckDB extension need be fetched.
                self.connection.register_filesystem(for_fsspec(results))
            self._index: Path | None = None
            if index is not None:
                self._index = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sweep-")), INDEX)
                self._index.write_bytes(index)
            self.close = stack.pop_all().close
            """End the connection."""

    def run(self, name: str, parameters: Mapping[str, Value] | None = None) -> pa.Table:
        """The answer of one SQL file; see `run_query`."""
        if name not in self._known:
            raise InputError(f"no query is called {name!r}; there are: {', '.join(self._known)}")
        query = self._known[name]
        chosen = dict(parameters or {})
        unknown = sorted(set(chosen) - set(query.parameters))
        if unknown:
            takes = ", ".join(query.parameters) or "none"
            raise InputError(f"query {name!r} has no parameter {', '.join(unknown)}; it takes: {takes}")
        with told(f"query {name!r}"):
            self.prepare(chosen)
            _require_tables(self.connection, query, self._results)
            for stem in _order(query, self._known):
                answer = execute(self.connection, text_of(stem))
        return answer

    def prepare(self, chosen: Mapping[str, Value] | None = None) -> None:
        """Bind the values that are chosen, and make the views of `queries/views.sql` where they are not made with these."""
        names = {name for query in self._known.values() for name in query.parameters}
        # Without a value a variable is NULL, so that the settings of an earlier query are forgotten.
        values = {name: (chosen or {}).get(name) for name in sorted(names)}
        for name, value in values.items():
            # The name comes from a file's own header, the value goes in as a bound parameter.
            self.connection.execute(f"SET VARIABLE {name} = ?", [value])
        read_with = {name: values[name] for name in IN_PREAMBLE}
        if read_with == self._read_with:
            return
        self.connection.execute("SET VARIABLE results = ?", [self._results])
        self.connection.execute("SET VARIABLE index = ?", [self._index and str(self._index)])
        for stem in PREAMBLE:
            execute(self.connection, text_of(stem))
        self._read_with = read_with


@contextmanager
def opened(
    results: str,
    connection: duckdb.DuckDBPyConnection | None = None,
    index: bytes | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with the views of `queries/views.sql` over the tables of a study.

    The arguments are those of `run_query`. What DuckDB raises is passed on: see `told`.
    """
    with closing(QuerySession(results, connection, index)) as session:
        session.prepare()
        yield session.connection


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
