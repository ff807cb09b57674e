"""Whether a tracking server answers, before a study is run."""

from pathlib import Path

from sweep.tracking.connection import Connection, tracking_uri
from sweep.tracking.database import SQLITE, check_database


def tracking_fault(results: str) -> str | None:
    """What is wrong with the tracking server of a results root, with the remedy; None where it answers.

    An SQLite file that is not there yet is made by the first run, and not here.
    """
    uri = tracking_uri(results)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        return None
    connection = Connection(uri)

    def ask() -> bool:
        from mlflow import MlflowClient

        check_database(uri)
        MlflowClient(uri).search_experiments(max_results=1)
        return True

    connection.attempt(ask)
    return connection.fault.line if connection.fault else None
