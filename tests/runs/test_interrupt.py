"""How a run ends before its time: drained first, dropped by a second signal or when its time is up."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from sweep.errors import Stopped, StoreError
from sweep.runs.interrupt import Interrupts


class Pool:
    """Stands for a worker pool: busy until it is drained and its calls have ended.

    The first of `events` happens once it is busy, the second once it is drained.
    """

    def __init__(self, seconds_in_flight: float, *events: Callable[[], object]) -> None:
        self.seconds, self.events, self.drained = seconds_in_flight, list(events), threading.Event()

    def run(self) -> str:
        later(self.events[0])
        assert self.drained.wait(10)
        for event in self.events[1:]:
            later(event)
        time.sleep(self.seconds)
        return "landed"


def later(call: Callable[[], object]) -> None:
    timer = threading.Timer(0.1, call)
    timer.daemon = True
    timer.start()


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def stopped(interrupts: Interrupts, pool: Pool) -> list[str]:
    """What `run` returned: nothing where it was dropped."""
    landed: list[str] = []
    with pytest.raises(KeyboardInterrupt), interrupts.draining(pool.drained.set):
        landed.append(pool.run())
    return landed


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_the_first_signal_drains(number: int, name: str) -> None:
    said: list[str] = []
    before = signal.getsignal(number)
    with Interrupts(said.append) as interrupts:
        assert stopped(interrupts, Pool(0.3, lambda: interrupt(number))) == ["landed"]
        assert isinstance(interrupts.end, Stopped)
        assert str(interrupts.end) == f"stopped by {name}"
    assert signal.getsignal(number) is before
    assert [line for line in said if "at most 20 s; another Ctrl-C drops it" in line] == said
    assert len(said) == 1


def test_the_second_signal_drops() -> None:
    with Interrupts(lambda _: None) as interrupts:
        begun = time.monotonic()
        assert stopped(interrupts, Pool(30, interrupt, interrupt)) == []
        assert time.monotonic() - begun < 10


def test_what_takes_too_long_is_dropped() -> None:
    with Interrupts(lambda _: None, drain_seconds=0.3) as interrupts:
        begun = time.monotonic()
        assert stopped(interrupts, Pool(30, interrupt)) == []
        assert time.monotonic() - begun < 10


def test_the_time_for_what_is_in_flight_ends_with_it() -> None:
    with Interrupts(lambda _: None, drain_seconds=0.5) as interrupts:
        assert stopped(interrupts, Pool(0, interrupt)) == ["landed"]
        time.sleep(1)  # what closes a run may take longer


def test_outside_of_a_pool_a_signal_ends_at_once() -> None:
    with Interrupts(lambda _: None) as interrupts:
        later(interrupt)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(30)
        assert str(interrupts.end) == "stopped by Ctrl-C"


def test_another_thread_can_ask_and_the_first_reason_stays() -> None:
    with Interrupts(lambda _: None) as interrupts:
        assert stopped(interrupts, Pool(0, lambda: interrupts.ask(StoreError("full")))) == ["landed"]
        assert stopped(interrupts, Pool(30, lambda: interrupts.ask(Stopped("later"), drop=True))) == []
        assert str(interrupts.end) == "full"


def test_nothing_happens_without_a_signal() -> None:
    with Interrupts(lambda _: None) as interrupts, interrupts.draining(lambda: None):
        pass
    assert interrupts.end is None
