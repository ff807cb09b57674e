"""What stands around the collector's application: bounds on a request, and the headers of every answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

MOST_BYTES = 64 * 1024
"""Body of a request, and what a browser sends as it leaves a page."""
BODY_SECONDS = 20.0
"""Time in which a body has to arrive."""
HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


class Limits:
    """Reads a request whole before the application sees it, and refuses what is too long or takes too long."""

    def __init__(self, application: Application) -> None:
        """Stand around an ASGI application."""
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _whole(scope, receive)
        except TimeoutError:
            await _refuse(408, "the body did not arrive in time", with_headers)
            return
        if body is None:
            await _refuse(413, f"the body may have {MOST_BYTES} bytes", with_headers)
            return
        messages = [body]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._application(scope, replay, with_headers)


async def _whole(scope: Message, receive: Receive) -> Message | None:
    """The body of a request as one message, or None where it is too long."""
    for name, value in scope["headers"]:
        if (
            name == b"content-length" and int(value) > MOST_BYTES
        ):  # the server has checked that it is a number
            return None
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return {"type": "http.request", "body": body, "more_body": False}


async def _refuse(status: int, reason: str, send: Send) -> None:
    content = json.dumps({"error": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
