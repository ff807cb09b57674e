"""Looks at a database before MLflow does.

MLflow would try for minutes to open one that cannot be opened. And it migrates one that lacks a table, as that of an
older MLflow does, without a word and without a copy; older programs cannot use it afterwards.
"""

import os
import socket
import sqlite3
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from sweep.tracking.faults import RefusedError, other_schema

SQLITE = "sqlite:///"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Where the databases that MLflow takes listen, unless their address says otherwise."""
SECONDS = 5
"""How long a database may take to answer."""


def check_database(uri: str) -> None:
    """Raise where the database at a tracking address cannot be opened, or is another MLflow's.

    Makes the folder of an SQLite file.
    """
    if uri.startswith(SQLITE):
        _check_sqlite(unquote(uri.removeprefix(SQLITE).partition("?")[0]))
        _check_schema(uri)
    elif (kind := uri.partition(":")[0].partition("+")[0]) in PORTS:
        # What stands before the host goes first: a password may have a '/' or an '@'.
        address = urlsplit("//" + uri.partition("://")[2].partition("?")[0].rpartition("@")[2])
        # Without a host it is a socket in the file system, and of several hosts any may answer.
        if address.hostname and "," not in address.netloc:
            socket.create_connection((address.hostname, address.port or PORTS[kind]), SECONDS).close()
        _check_schema(uri)


def _check_schema(uri: str) -> None:
    import mlflow
    import sqlalchemy
    from alembic.script import ScriptDirectory

    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                return
            found = connection.scalar(sqlalchemy.text("SELECT version_num FROM alembic_version"))
    finally:
        engine.dispose()
    migrations = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    if found and found != migrations.get_current_head():
        raise RefusedError(other_schema(found, uri))


def _check_sqlite(name: str) -> None:
    if name in ("", ":memory:"):
        raise RefusedError(
            "the address names no file, so its runs would be gone with this process; name one in MLFLOW_TRACKING_URI "
            "(sqlite:///FOLDER/mlflow.db)"
        )
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefusedError(
            f"the SQLite file cannot be made: {error.filename}: {os.strerror(error.errno or 0)}; name another in "
            "MLFLOW_TRACKING_URI (sqlite:///FOLDER/mlflow.db)"
        ) from None
    opened = sqlite3.connect(f"file:{quote(str(path))}", timeout=SECONDS, uri=True, isolation_level=None)
    try:
        # Only a write shows whether writing is permitted; this one changes nothing.
        opened.execute("BEGIN IMMEDIATE")
        opened.execute("ROLLBACK")
    finally:
        opened.close()
