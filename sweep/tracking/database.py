"""Looks at a database before MLflow does, which would try for minutes to open one that cannot be opened."""

import os
import socket
import sqlite3
from pathlib import Path
from urllib.parse import quote, unquote

from sweep.tracking.faults import RefusedError

SQLITE = "sqlite:///"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Where the databases that MLflow takes listen, unless their address says otherwise."""
SECONDS = 5
"""How long a database may take to answer."""


def check_database(uri: str) -> None:
    """Raise where the database at a tracking address cannot be opened; makes the folder of an SQLite file."""
    if uri.startswith(SQLITE):
        _check_sqlite(unquote(uri.removeprefix(SQLITE).partition("?")[0]))
    elif (kind := uri.partition(":")[0].partition("+")[0]) in PORTS:
        from sqlalchemy import make_url  # MLflow's own reader: its passwords may have a '/'

        address = make_url(uri)
        # Without a host it is a socket in the file system, and of several hosts any may answer.
        if address.host and "," not in address.host:
            socket.create_connection((address.host, address.port or PORTS[kind]), SECONDS).close()


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
