"""Talking to a tracking server that may be away for a while: no call raises, and none blocks work for long."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sweep.errors import SweepError, redacted
from sweep.tracking.faults import Fault, fault_of

Answer = TypeVar("Answer")

FIRST_WAIT, LONGEST_WAIT = 5.0, 300.0
"""Seconds after a failure in which the server is left alone; they double from the first to the longest."""
PATIENCE = 10
"""The server is also left alone for so many times as long as the failed call took: waiting takes a tenth at most."""
INSISTENCE = (0.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each try of a call that is worth waiting for."""


def tracking_uri(results: str) -> str:
    """`MLFLOW_TRACKING_URI` where it is set, otherwise an SQLite file under a local results root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or default_uri(results)


def default_uri(results: str) -> str:
    """The SQLite file under a local results root; in this folder where the root is an object store."""
    folder = Path.cwd() if "://" in results else Path(results).resolve()
    # In a database's address these two have a meaning of their own.
    return f"sqlite:///{str(folder).replace('%', '%25').replace('?', '%3F')}/mlflow.db"


def artifact_root(uri: str, results: str) -> str | None:
    """Where runs in an SQLite file keep their files: beside local results; None where MLflow or a server decides.

    MLflow would make a folder in the working directory, which may be read-only, and stumble over quotes in its name.
    """
    if not uri.startswith("sqlite:///") or "://" in results:
        return None
    root = (Path(results).resolve() / "mlflow-artifacts").as_uri()
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = root
    return root


def how_to_open(uri: str) -> str:
    """What a person does to see the runs at a tracking address."""
    shown = redacted(uri)
    return shown if uri.startswith(("http://", "https://")) else f"mlflow ui --backend-store-uri {shown}"


def shorten_patience() -> None:
    """Let MLflow give up after two tries of 10 seconds, unless the environment says otherwise.

    Its own patience is 7 tries of 2 minutes each, which would stop the study for a quarter of an hour.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    # Standard output is for results.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


class Connection:
    """Runs calls to the tracking server at `uri`; a failed one is told by `fault` and makes room for the work."""

    def __init__(self, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.fault: Fault | None = None
        """What the last failure was; None since the last success of `insist`."""
        self._uri, self._clock = uri, clock
        self._wait, self._silent_until = FIRST_WAIT, 0.0
        shorten_patience()

    def attempt(self, call: Callable[[], Answer]) -> Answer | None:
        """What `call` returns; None where it fails, or where the last failure is too recent to try again."""
        begun = self._clock()
        if begun < self._silent_until:
            return None
        try:
            answer = call()
        except SweepError:  # of our own results; MLflow is not to blame
            raise
        except Exception as error:
            now = self._clock()
            self._silent_until = now + max(self._wait, PATIENCE * (now - begun))
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            self.fault = fault_of(error, self._uri)
            return None
        self._wait = FIRST_WAIT
        return answer

    def be_ready(self) -> None:
        """Let the next call be tried, however recent the last failure is."""
        self._silent_until = 0.0

    def insist(self, call: Callable[[], bool]) -> None:
        """Try `call` until it says that all is done, several times at most, and no more where that is of no use."""
        for pause in INSISTENCE:
            time.sleep(pause)
            self.be_ready()
            self.fault = None
            if self.attempt(call) or self._is_final():
                return

    def _is_final(self) -> bool:
        return self.fault is not None and self.fault.final
