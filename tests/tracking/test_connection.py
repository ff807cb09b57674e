"""Patience with a server that is away: bounded, and never in the way of the work."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from sweep.tracking import connection
from sweep.tracking.connection import FIRST_WAIT, LONGEST_WAIT, PATIENCE, Connection
from sweep.tracking.faults import Fault, RefusedError

URI = "http://127.0.0.1:1"


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def told(connected: Connection) -> str | None:
    return connected.fault.line if connected.fault else None


def failing(clock: Clock, seconds: float) -> Callable[[], None]:
    def call() -> None:
        clock.now += seconds
        raise ConnectionError("refused\nwith details")

    return call


def test_a_failure_is_told_in_one_line_and_raises_nothing() -> None:
    clock = Clock()
    connected = Connection(URI, clock)
    assert connected.attempt(failing(clock, 0)) is None
    assert told(connected) == "ConnectionError: refused"


def test_a_server_that_was_away_is_left_alone_ever_longer_and_then_asked_again() -> None:
    clock = Clock()
    connected = Connection(URI, clock)
    asked: list[float] = []

    def call() -> None:
        asked.append(clock.now)
        raise ConnectionError("refused")

    while len(asked) < 9:
        connected.attempt(call)
        clock.now += 0.5
    waits = [after - before for before, after in pairwise(asked)]
    assert waits == [5, 10, 20, 40, 80, 160, LONGEST_WAIT, LONGEST_WAIT]


def test_time_spent_waiting_for_a_dead_server_is_a_tenth_at_most() -> None:
    clock = Clock()
    connected = Connection(URI, clock)
    begun, blocked = clock.now, 0.0
    while clock.now < begun + 100_000:
        before = clock.now
        connected.attempt(failing(clock, 30))
        blocked += clock.now - before
        clock.now += 1
    assert blocked / (clock.now - begun) < 1 / PATIENCE


def test_one_success_makes_the_next_failure_a_first_one() -> None:
    clock = Clock()
    connected = Connection(URI, clock)
    for _ in range(4):
        connected.attempt(failing(clock, 0))
        clock.now += LONGEST_WAIT
    assert connected.attempt(lambda: "ok") == "ok"
    connected.attempt(failing(clock, 0))
    clock.now += FIRST_WAIT
    assert connected.attempt(lambda: "ok") == "ok"


def test_what_matters_is_tried_again_until_it_goes_through_or_patience_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "INSISTENCE", (0.0, 0.0, 0.0))
    connected = Connection(URI)
    answers: list[Exception | bool] = [ConnectionError("a"), False, True, True]

    def call() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    connected.insist(call)
    assert told(connected) is None
    assert answers == [True]
    answers = [ConnectionError(str(count)) for count in range(9)]
    connected.insist(call)
    assert len(answers) == 6
    assert told(connected) == "ConnectionError: 2"


def test_what_no_waiting_changes_is_tried_once() -> None:
    connected, tries = Connection(URI), list[int]()

    def call() -> bool:
        tries.append(1)
        raise RefusedError("rename the study")

    connected.insist(call)
    assert tries == [1]
    assert connected.fault == Fault("rename the study", final=True)
