"""How a run ends before its time: drained first, dropped by a second signal or when its time is up."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweep.errors import Stopped, StoreError
from sweep.runs.interrupt import Interrupts


@pytest.fixture(autouse=True)
def _hang_ups_count() -> Iterator[None]:
    """Whoever runs the tests may have told them to ignore a closed terminal, as nohup does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


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


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "a hang-up")],
)
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


def hang_up_twice() -> None:
    interrupt(signal.SIGHUP)
    time.sleep(1.1)
    interrupt(signal.SIGHUP)


def terminate_twice() -> None:
    interrupt(signal.SIGTERM)
    time.sleep(0.1)
    interrupt(signal.SIGTERM)


@pytest.mark.parametrize("twice", [hang_up_twice, terminate_twice])
def test_the_same_request_that_comes_twice_is_one(twice: Callable[[], None]) -> None:
    """A shell passes a hang-up on that the kernel sends too; `timeout` sends SIGTERM to a process and to its group."""
    with Interrupts(lambda _: None) as interrupts:
        assert stopped(interrupts, Pool(1.5, twice)) == ["landed"]


def test_a_later_sigterm_drops() -> None:
    def later_on() -> None:
        time.sleep(1.1)
        interrupt(signal.SIGTERM)

    with Interrupts(lambda _: None) as interrupts:
        begun = time.monotonic()
        assert stopped(interrupts, Pool(30, lambda: interrupt(signal.SIGTERM), later_on)) == []
        assert time.monotonic() - begun < 10


def test_a_second_stop_from_elsewhere_does_not_drop() -> None:
    with Interrupts(lambda _: None) as interrupts:

        def ask() -> None:
            interrupts.ask(Stopped("stopped by `sweep stop`"))

        assert stopped(interrupts, Pool(0.5, ask, ask)) == ["landed"]


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(lambda _: None) as interrupts, interrupts.draining(lambda: None):
            interrupt(signal.SIGHUP)
            time.sleep(0.1)
        assert interrupts.end is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_cannot_be_said_costs_no_deadline() -> None:
    def say(line: str) -> None:
        raise OSError(5, "Input/output error")

    with Interrupts(say, drain_seconds=0.3) as interrupts:
        begun = time.monotonic()
        assert stopped(interrupts, Pool(30, interrupt)) == []
        assert time.monotonic() - begun < 10


OUTPUT = 'print("on standard output", flush=True)'
CHILD = """
import sys, threading, time
from pathlib import Path
from sweep.runs.interrupt import Interrupts
from sweep.terminal.progress import Display
drained = threading.Event()
with Display() as display:
    display.stage("features", 10, 0)
    with Interrupts(display.say) as interrupts:
        try:
            with interrupts.draining(drained.set):
                print("busy", flush=True)
                drained.wait(30)
                for _ in range(5):
                    display.advance(1)
                    display.say("a unit more")
                    print("on standard output", flush=True)
                    time.sleep(0.1)
                Path(sys.argv[1]).write_text("landed")
        except KeyboardInterrupt:
            Path(sys.argv[1]).write_text(Path(sys.argv[1]).read_text() + f", {interrupts.end}")
sys.exit(7)
"""


def test_a_run_whose_terminal_is_closed_finishes_what_is_in_flight(tmp_path: Path) -> None:
    """On a terminal of its own, that goes away: the kernel hangs up, and every write to it fails."""
    ended = tmp_path / "ended"
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", CHILD, str(ended)])
    try:
        told = b""
        while b"busy" not in told:
            told += os.read(terminal, 1024)
    finally:
        os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert ended.read_text() == "landed, stopped by a hang-up"
    assert os.waitstatus_to_exitcode(status) == 7


def test_a_run_whose_reader_is_gone_goes_on(tmp_path: Path) -> None:
    """As in `sweep run 2>&1 | tee`, whose `tee` the same Ctrl-C ends."""
    ended = tmp_path / "ended"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD.replace(OUTPUT, "pass"), str(ended)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 7
    assert ended.read_text() == "landed, stopped by Ctrl-C"


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
