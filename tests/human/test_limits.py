"""A body that never comes, with a clock of our own."""

import asyncio

import pytest

from sweep.human import limits
from sweep.human.limits import Limits, Message, Receive, Send


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """Says the body that it got."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def answered(messages: list[Message], length: str | None = None) -> tuple[int, bytes]:
    """Status and body of the answer to a request whose body comes as these messages, and then nothing more."""
    sent: list[Message] = []

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-length", length.encode())] if length else []
    asyncio.run(Limits(application)({"type": "http", "headers": headers}, receive, send))
    start, body = sent
    assert dict(start["headers"])[b"referrer-policy"] == b"no-referrer"
    return start["status"], body["body"]


def part(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_parts_arrives_whole() -> None:
    assert answered([part(b"a", True), part(b"b", False)]) == (200, b"ab")


def test_a_body_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    status, body = answered([part(b"a", True)], "2")
    assert (status, body) == (408, b'{"error": "the body did not arrive in time"}')


def test_the_limit_is_exact() -> None:
    exact = b" " * limits.MOST_BYTES
    assert answered([part(exact, False)], str(limits.MOST_BYTES))[0] == 200
    assert answered([part(exact, True), part(b" ", False)])[0] == 413
    assert answered([], str(limits.MOST_BYTES + 1))[0] == 413
