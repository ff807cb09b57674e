"""What MLflow answers when something is wrong, from real databases and real sockets: one line, soon, with the remedy."""

import http.server
import shutil
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from sweep.tracking import Tracker, connection
from sweep.tracking.faults import fault_of
from tests.tracking.harness import Study, tracked

SOON = 10.0
"""Seconds until a line is there; MLflow itself tries for a hundred to open a database."""


def told_at(uri: str, study: Study) -> str:
    """The one line of a study whose runs are to be kept at `uri`."""
    begun = time.monotonic()
    with tracked(uri):
        follower = Tracker(study.plan, study.results)
        follower.catch_up(study.plan.models[:1], study.history)
        (line,) = follower.problems()
    assert time.monotonic() - begun < SOON
    assert len(line.splitlines()) == 1
    assert "Error:" not in line
    return line


def revised(source: Path, target: Path, revision: str) -> str:
    """A copy of a database that says of itself that it has another version's schema."""
    shutil.copy(source, target)
    with sqlite3.connect(target) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    database.close()
    return f"sqlite:///{target}"


@pytest.mark.parametrize("lacking", [False, True])
def test_a_database_of_an_older_mlflow(
    study: Study, empty_database: Path, tmp_path: Path, lacking: bool
) -> None:
    uri = revised(empty_database, tmp_path / "older.db", "acf3f17fdcc7")
    if lacking:  # MLflow would migrate it without a word then
        with sqlite3.connect(tmp_path / "older.db") as database:
            database.execute("DROP TABLE input_tags")
        database.close()
    before = (tmp_path / "older.db").read_bytes()
    line = told_at(uri, study)
    assert "made by an older MLflow than is installed" in line
    assert f"mlflow db upgrade '{uri}'" in line
    assert (tmp_path / "older.db").read_bytes() == before


@pytest.mark.parametrize("lacking", [False, True])
def test_a_database_of_a_newer_mlflow(
    study: Study, empty_database: Path, tmp_path: Path, lacking: bool
) -> None:
    uri = revised(empty_database, tmp_path / "newer.db", "ffffffffffff")
    if lacking:  # MLflow tries to migrate it then
        with sqlite3.connect(tmp_path / "newer.db") as database:
            database.execute("DROP TABLE input_tags")
        database.close()
    line = told_at(uri, study)
    assert "made by a newer MLflow than is installed" in line
    assert "db upgrade" not in line


@pytest.mark.parametrize("kind", ["folder", "file in the way", "junk", "no file"])
def test_an_sqlite_file_that_cannot_be_opened(study: Study, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    match kind:
        case "folder":
            place.mkdir()
            uri, why = f"sqlite:///{place}", "unable to open database file"
        case "file in the way":
            place.write_text("")
            uri, why = f"sqlite:///{place}/below/mlflow.db", "Not a directory"
        case "junk":
            place.write_text("nothing of the kind" * 100)
            uri, why = f"sqlite:///{place}", "file is not a database"
        case _:
            uri, why = "sqlite:///", "names no file"
    line = told_at(uri, study)
    assert why in line
    assert "sqlite:///FOLDER/mlflow.db" in line


@pytest.mark.parametrize(
    ("uri", "package"),
    [
        ("postgresql://ann:s3cret@127.0.0.1:{port}/db", "psycopg[binary]"),
        ("mysql+pymysql://ann:s3cret@127.0.0.1:{port}/db", "pymysql"),
    ],
)
def test_a_database_without_its_driver(study: Study, uri: str, package: str) -> None:
    with answering(200, b"") as port:  # something listens there
        line = told_at(uri.format(port=port), study)
    assert f"pip install '{package}'" in line
    assert "s3cret" not in line


def test_a_database_that_does_not_answer(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "INSISTENCE", (0.0, 0.0))
    line = told_at("postgresql://ann:s3/cret@127.0.0.1:1/db", study)
    assert "it does not answer (Connection refused)" in line


def test_a_folder_of_files(study: Study, tmp_path: Path) -> None:
    line = told_at(f"file://{tmp_path}/mlruns", study)
    assert "mlflow migrate-filestore --source FOLDER --target sqlite:///FOLDER/mlflow.db" in line


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers every request in the same way."""

    code: ClassVar[int]
    body: ClassVar[bytes]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)


@contextmanager
def answering(code: int, body: bytes, certificate: Path | None = None) -> Iterator[int]:
    """The port of a server that answers so."""
    handler = type("Same", (Answering,), {"code": code, "body": body})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("code", "body", "told"),
    [
        (
            401,
            b"You are not authenticated.",
            "it asks who this is (HTTP 401); set MLFLOW_TRACKING_USERNAME and",
        ),
        (
            403,
            b"Permission denied",
            "it does not permit this (HTTP 403); ask who runs it for the right to edit",
        ),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}', "it does not permit this (HTTP 403)"),
        (
            403,
            b"Invalid Host header - possible DNS rebinding attack detected",
            "start it with --allowed-hosts",
        ),
        (404, b"<html>", "what answers there is not MLflow; correct MLFLOW_TRACKING_URI"),
        (200, b"<html>Sign in</html>", "what answers there is not MLflow; correct MLFLOW_TRACKING_URI"),
        (500, b"oops", "it fails (HTTP 500); look at its log"),
    ],
)
def test_a_server_that_refuses(
    study: Study, monkeypatch: pytest.MonkeyPatch, code: int, body: bytes, told: str
) -> None:
    monkeypatch.setattr(connection, "INSISTENCE", (0.0,))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with answering(code, body) as port:
        assert told in told_at(f"http://127.0.0.1:{port}", study)


def test_a_certificate_that_nobody_has_signed(study: Study, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            tmp_path / "key.pem",
            "-out",
            tmp_path / "own.pem",
        ],
        check=True,
        capture_output=True,
    )
    both.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "own.pem").read_text())
    with answering(404, b"<html>", both) as port, pytest.MonkeyPatch.context() as patch:
        line = told_at(f"https://127.0.0.1:{port}", study)
        assert "its certificate is not trusted (self-signed certificate)" in line
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in line
        # What the line says helps: the next question gets through.
        patch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "own.pem"))
        assert "is not MLflow" in told_at(f"https://127.0.0.1:{port}", study)


def test_https_where_only_http_is_spoken(study: Study) -> None:
    with answering(200, b"") as port:
        assert "write http:// in MLFLOW_TRACKING_URI" in told_at(f"https://127.0.0.1:{port}", study)


def test_what_is_not_known_is_told_as_it_is_and_short() -> None:
    fault = fault_of(OverflowError("x" * 1000 + "\nmore"), "sqlite:///a.db")
    assert fault.line == "OverflowError: " + "x" * 400
    assert not fault.final
