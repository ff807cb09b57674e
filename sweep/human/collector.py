"""The collector: a server that shows the page and stores each answer before it acknowledges it.

It keeps neither addresses nor user agents, and writes no log of requests. It speaks plain HTTP; a public address needs a
reverse proxy that speaks TLS (docs/human.md).
"""

import mimetypes
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from sweep.errors import InputError
from sweep.human.journal import Moment, Name, ResponseLine
from sweep.human.journal_file import JournalFile
from sweep.human.limits import Limits
from sweep.human.pages import CHECKSUMS, COLLECTOR_EXIT, EXIT, experiment_of, read_folder
from sweep.human.pseudonyms import read_secret
from sweep.human.sessions import Refused, Sessions

MOST_RESPONSES = 50
"""Answers in one request."""
MOST_CONNECTIONS = 512
STOP_SECONDS = 5
"""How long a request that is under way may take when the collector is stopped."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BeginRequest(_Request):
    """A page begins a session."""

    experiment_id: Name
    session_id: Name
    observer: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Who answers, as the address or the observer says; only its pseudonym is kept."""
    consented: Moment
    started: Moment


class AnswerRequest(_Request):
    """A page sends answers."""

    responses: Annotated[list[ResponseLine], Field(min_length=1, max_length=MOST_RESPONSES)]


class FinishRequest(_Request):
    """A page asks for the code of a session."""

    session_id: Name
    finished: Moment


def application(sessions: Sessions, files: Mapping[str, bytes]) -> FastAPI:
    """Returns the application: three requests of the page, and the page itself."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    served = {name: content for name, content in files.items() if name != CHECKSUMS} | {EXIT: COLLECTOR_EXIT}

    @app.post("/api/session")
    def begin(request: BeginRequest) -> dict[str, Any]:
        return sessions.begin(
            request.experiment_id, request.session_id, request.observer, request.consented, request.started
        )

    @app.post("/api/responses")
    def answer(request: AnswerRequest) -> dict[str, int]:
        return {"new": sessions.answer(request.responses)}

    @app.post("/api/finish")
    def finish(request: FinishRequest) -> dict[str, str]:
        return {"code": sessions.finish(request.session_id, request.finished)}

    @app.api_route("/{name:path}", methods=["GET", "HEAD"])
    def page(name: str) -> Response:
        content = served.get(name or "index.html")
        if content is None:
            raise HTTPException(404)
        kind = mimetypes.guess_type(name or "index.html")[0] or "text/plain"
        text = kind.startswith("text/") or kind.endswith("javascript")
        # A picture's name is made of its content; everything else may be another page tomorrow.
        kept = "max-age=604800, immutable" if name.startswith("images/") else "no-cache"
        media = f"{kind}; charset=utf-8" if text else kind
        return Response(content, media_type=media, headers={"cache-control": kept})

    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _impossible)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(OSError, _unstored)
    app.add_middleware(Limits)
    return app


def _malformed(request: Request, error: Exception) -> Response:
    """Say where a request is wrong and how, and repeat nothing that it contains."""
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    parts = [part for part in problem["loc"] if part != "body"]
    if problem["type"] in ("extra_forbidden", "json_invalid"):  # the place itself is what was sent
        parts = parts[:-1]
    place = ".".join(map(str, parts)) or "body"
    return JSONResponse({"error": f"{place}: {str(problem['type']).replace('_', ' ')}"}, 422)


def _impossible(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reasons = {400: "the body is no JSON", 404: "there is nothing here", 405: "this takes another method"}
    reason = reasons.get(error.status_code, "the request cannot be served")
    return JSONResponse({"error": reason}, error.status_code, headers=error.headers)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.content, error.status)


def _unstored(request: Request, error: Exception) -> Response:
    """The disk refused; the page keeps its answers and sends them again."""
    assert isinstance(error, OSError)
    sys.stderr.write(f"sweep: the journal cannot be written: {error.strerror}; answers wait on the pages\n")
    return JSONResponse({"error": "cannot be stored now; it is kept by the page and sent again"}, 503)


class Collector:
    """A collector that is ready to serve."""

    def __init__(self, page: Path, journal: Path, secret: Path, host: str, port: int) -> None:
        """Open everything. Raises InputError where the page, the journal, the secret or the address cannot be used."""
        files = read_folder(page)
        experiment = experiment_of(files)
        self.journal = JournalFile(journal, experiment["experiment_id"])
        try:
            key = read_secret(secret, create=not self.journal.entries)
            self.sessions = Sessions(self.journal, experiment, key)
            self._socket = _bound(host, port)
        except BaseException:
            self.journal.close()
            raise
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}/"
        self._application = application(self.sessions, files)

    def serve(self) -> None:
        """Serve until SIGINT or SIGTERM, which is raised again at the end."""
        config = uvicorn.Config(
            self._application,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        try:
            uvicorn.Server(config).run(sockets=[self._socket])
        finally:
            self._socket.close()
            self.journal.close()


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"--host {host} --port {port}: {reason}; name another with --host or --port"
        ) from None
    return bound
