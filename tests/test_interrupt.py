"""How a run ends before its time: drained first, dropped by a second signal or when its time is up."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from sweep.errors import Stopped, StoreError
from sweep.interrupt import Interrupts


class Pool:
    """Stands for a worker pool: busy until it is drained and its calls have ended."""

    def __init__(self, seconds_in_flight: float) -> None:
        self.seconds, self.drained = seconds_in_flight, threading.Event()

    def run(self) -> str:
        assert self.drained.wait(10)
        time.sleep(self.seconds)
        return "landed"


def later(call: Callable[[], object], seconds: float = 0.1) -> None:
    timer = threading.Timer(seconds, call)
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
        later(lambda: interrupt(number))
        assert stopped(interrupts, Pool(0.3)) == ["landed"]
        assert isinstance(interrupts.end, Stopped)
        assert str(interrupts.end) == f"stopped by {name}"
    assert signal.getsignal(number) is before
    assert [line for line in said if "at most 20 s; another Ctrl-C drops it" in line] == said
    assert len(said) == 1


def test_the_second_signal_drops() -> None:
    with Interrupts(lambda _: None) as interrupts:
        later(interrupt)
        later(interrupt, 0.4)
        begun = time.monotonic()
        assert stopped(interrupts, Pool(30)) == []
        assert time.monotonic() - begun < 10


def test_what_takes_too_long_is_dropped() -> None:
    with Interrupts(lambda _: None, drain_seconds=0.3) as interrupts:
        later(interrupt)
        begun = time.monotonic()
        assert stopped(interrupts, Pool(30)) == []
        assert time.monotonic() - begun < 10


def test_outside_of_a_pool_a_signal_ends_at_once() -> None:
    with Interrupts(lambda _: None) as interrupts:
        later(interrupt)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(30)
        assert str(interrupts.end) == "stopped by Ctrl-C"


def test_another_thread_can_ask_and_the_first_reason_stays() -> None:
    with Interrupts(lambda _: None) as interrupts:
        later(lambda: interrupts.ask(StoreError("full")))
        assert stopped(interrupts, Pool(0)) == ["landed"]
        later(lambda: interrupts.ask(Stopped("later"), drop=True))
        assert stopped(interrupts, Pool(30)) == []
        assert str(interrupts.end) == "full"


def test_nothing_happens_without_a_signal() -> None:
    with Interrupts(lambda _: None) as interrupts, interrupts.draining(lambda: None):
        pass
    assert interrupts.end is None
