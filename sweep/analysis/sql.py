"""SQL of the user's own on a study's tables: a statement that only reads, and what a DuckDB shell starts with."""

import tempfile

import duckdb
import pyarrow as pa

from sweep.analysis.queries import PREAMBLE, opened, text_of, told
from sweep.errors import InputError

LOCKED = (
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
)
"""What keeps a statement from fetching and loading extensions."""


def run_sql(statement: str, results: str, index: bytes | None = None) -> pa.Table:
    """Run one SELECT statement on the tables of a study and return its answer.

    The statement sees the views of `queries/views.sql`. It writes no file and loads no extension: only SELECT statements
    (also WITH, FROM, DESCRIBE, SUMMARIZE and SHOW) are taken, and DuckDB's settings are locked while they run.

    Args:
        statement: the SQL.
        results: folder or address of the tables of a study.
        index: as in `run_query`.

    Raises:
        InputError: where there is not exactly one statement, it does not only read, or DuckDB does not understand it.
        WorkError: where it fails while it runs.
    """
    with told("--sql"), opened(results, index=index) as session, tempfile.TemporaryDirectory() as spills:
        # What does not fit in memory goes to a folder that is removed afterwards, and not to the working directory.
        session.execute(f"SET temp_directory = {quoted(spills)}")
        for setting in (*LOCKED, "SET lock_configuration = true"):
            session.execute(setting)
        try:
            statements = session.extract_statements(statement)
            if len(statements) != 1:
                raise InputError(f"--sql: holds {len(statements)} statements; give one SELECT statement")
            if statements[0].type != duckdb.StatementType.SELECT:
                kind = statements[0].type.name
                raise InputError(
                    f"--sql: is a statement of the kind {kind}, and only SELECT is taken; use `sweep sql` for others"
                )
            return session.sql(statements[0].query).to_arrow_table()
        except duckdb.ProgrammingError as error:
            raise InputError(f"--sql: {str(error).splitlines()[0]}") from None


def start_script(results: str) -> str:
    """What a DuckDB shell runs first, so that it has the views of a study whose tables are in the folder `results`."""
    return f"SET VARIABLE results = {quoted(results)};\n" + "\n".join(text_of(stem) for stem in PREAMBLE)


def quoted(text: str) -> str:
    """`text` as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
