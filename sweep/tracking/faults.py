"""What MLflow's errors mean: a line each, with what to do about it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import redacted

LONGEST = 400
"""Characters of an error that is told as it is."""
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
"""What pip calls the drivers of databases, where it is not what Python calls them."""
_RUN_ID = re.compile(r"\b[0-9a-f]{32}\b")
_FINAL_CODES = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}
"""MLflow's names for answers that no waiting changes."""


class RefusedError(Exception):
    """MLflow answers, and holds something that rules the study's runs out; the message says what to do."""


class RunRefusedError(Exception):
    """MLflow answers, and refuses one run by an `error` of its own. The other runs may be all right."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Fault:
    """An error of MLflow's in a line."""

    line: str
    final: bool
    """Whether trying again is of no use."""

    @property
    def kind(self) -> str:
        """The line without the runs that it names: what the faults of several models have in common."""
        return _RUN_ID.sub("RUN", self.line)


def fault_of(error: BaseException, uri: str) -> Fault:
    """What an error of MLflow at the address `uri` means, with the remedy where it is known."""
    text = f"{type(error).__name__}: {error}"
    for pattern, explain, final in _KNOWN:
        if match := re.search(pattern, text):
            return Fault(redacted(explain(match, uri)), final)
    first = (str(error).strip().splitlines() or [""])[0][:LONGEST]
    told = first if isinstance(error, RefusedError) else f"{type(error).__name__}: {first}"
    code = getattr(error, "error_code", "")
    return Fault(redacted(told), final=isinstance(error, RefusedError) or code in _FINAL_CODES)


def deleted_experiment(name: str, experiment_id: str) -> str:
    """What to do about an experiment that was deleted."""
    return (
        f"the experiment {name} was deleted; restore it with: mlflow experiments restore --experiment-id "
        f"{experiment_id}, or name the study otherwise"
    )


def other_schema(found: str, uri: str) -> str:
    """What to do about a database whose schema is that of another version of MLflow; `found` is its revision."""
    import mlflow

    versions = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(versions.glob(f"{found}_*.py")):
        return (
            f"its database was made by an older MLflow than is installed ({mlflow.__version__}); end what uses it, copy "
            f"it, and run: mlflow db upgrade '{uri}'"
        )
    return (
        f"its database was made by a newer MLflow than is installed ({mlflow.__version__}), or is none of MLflow's; "
        "install the MLflow that made it, or name another database in MLFLOW_TRACKING_URI"
    )


def _driver(match: re.Match[str], uri: str) -> str:
    package = DRIVERS.get(match["module"], match["module"])
    return f"a {uri.partition(':')[0]} database needs the Python package {match['module']}; pip install '{package}'"


def _sqlite(match: re.Match[str], uri: str) -> str:
    return (
        f"the SQLite file cannot be used: {match['why']}; name another in MLFLOW_TRACKING_URI "
        "(sqlite:///FOLDER/mlflow.db), or mend its permissions and its disk"
    )


def _always(line: str) -> Callable[[re.Match[str], str], str]:
    return lambda match, _: match.expand(line)


FINAL, PASSING = True, False
_KNOWN: tuple[tuple[str, Callable[[re.Match[str], str], str], bool], ...] = (
    (
        r"database schema \(found version (?P<found>\w+)|Can't locate revision identified by '(?P<lost>\w+)'",
        lambda match, uri: other_schema(match["found"] or match["lost"], uri),
        FINAL,
    ),
    (r"ModuleNotFoundError: No module named '(?P<module>\w+)", _driver, FINAL),
    (
        r"filesystem tracking backend",
        _always(
            "MLflow takes no runs in plain folders any more; name a database in MLFLOW_TRACKING_URI "
            "(sqlite:///FOLDER/mlflow.db), and bring older runs into it with: "
            "mlflow migrate-filestore --source FOLDER --target sqlite:///FOLDER/mlflow.db"
        ),
        FINAL,
    ),
    (
        r"The experiment (\S+) must be in the 'active' state",
        lambda match, _: deleted_experiment(match[1], match[1]),
        FINAL,
    ),
    (
        r"The run (\w+) must be in the 'active' state|Run with id=(\w+) not found",
        _always("its run was deleted; run the study again: it gets a new one, with its history"),
        FINAL,
    ),
    (
        r"Changing param values is not allowed",
        _always(
            "its run holds other parameters than the model has; delete that run, and run the study again: it gets a "
            "new one, with its history"
        ),
        FINAL,
    ),
    (
        r"Invalid Host header",
        _always(
            "the server does not go by this name (HTTP 403); start it with --allowed-hosts and the name in the address"
        ),
        FINAL,
    ),
    (
        r"UNAUTHENTICATED|error code 401|\b401 Client Error",
        _always(
            "it asks who this is (HTTP 401); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN"
        ),
        FINAL,
    ),
    (
        r"PERMISSION_DENIED|error code 403|\b403 Client Error",
        _always(
            "it does not permit this (HTTP 403); ask who runs it for the right to edit the study's experiment, or set "
            "MLFLOW_TRACKING_USERNAME to someone who has it"
        ),
        FINAL,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED\] certificate verify failed: ([^(]*\w)",
        _always(
            r"its certificate is not trusted (\1); name the file of the certificate that signed it in "
            "MLFLOW_TRACKING_SERVER_CERT_PATH"
        ),
        FINAL,
    ),
    (
        r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE",
        _always("it does not speak HTTPS; write http:// in MLFLOW_TRACKING_URI"),
        FINAL,
    ),
    (
        r"error code 404 != 200|not in a valid JSON format",
        _always("what answers there is not MLflow; correct MLFLOW_TRACKING_URI"),
        FINAL,
    ),
    (
        r"(Connection refused|Name or service not known|No route to host|Temporary failure in name resolution|"
        r"[Tt]imed out)",
        _always(
            r"it does not answer (\1); start it, or correct MLFLOW_TRACKING_URI, and run the study again"
        ),
        PASSING,
    ),
    (
        r"([Cc]onnection aborted|[Cc]onnection reset|Broken pipe)",
        _always(
            r"it breaks off (\1); look at its log, and at what stands before it (a proxy's limit of sizes, for instance)"
        ),
        PASSING,
    ),
    (
        r"too many (\d+) error responses",
        _always(r"it fails (HTTP \1); look at its log, and run the study again"),
        PASSING,
    ),
    (
        r"(?P<why>unable to open database file|file is not a database|attempt to write a readonly database|"
        r"database disk image is malformed)",
        _sqlite,
        FINAL,
    ),
    (r"(?P<why>database or disk is full|database is locked|disk I/O error)", _sqlite, PASSING),
)
"""Errors by how they read, the first that fits; what they mean; and whether they may pass by themselves."""
