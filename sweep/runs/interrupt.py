"""How a run ends before its time: first what is in flight is finished, for a while; then it is dropped.

Ctrl-C, SIGTERM, a hang-up, `sweep stop` and `sweep cancel` from another terminal, the loss of the lease and the loss
of the store all take this one way, by a signal to the main thread.

A closed terminal sends more than one hang-up as a rule, and `timeout` sends SIGTERM to the process and to its group:
only a further Ctrl-C, or a SIGTERM that comes later, means that what is in flight is to be dropped. Ctrl-Z suspends a
run as it does any process, and SIGQUIT (Ctrl-\\) kills it, whatever it is at.
"""

import errno
import os
import signal
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

from sweep.errors import Stopped, SweepError
from sweep.terminal.lasting import silence

DRAIN_SECONDS = 20.0
"""How long units in flight may take to finish before they are dropped."""
REPEAT_SECONDS = 1.0
"""Within which a second SIGTERM is the same request."""
_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "a hang-up"}


class Interrupts:
    """Handles the signals inside the `with` block; must be entered in the main thread.

    The first signal during `draining` begins to drain; any other raises KeyboardInterrupt in the main thread. A hang-up
    that the process was started to ignore, as by `nohup`, stays ignored.
    """

    def __init__(self, say: Callable[[str], None], drain_seconds: float = DRAIN_SECONDS) -> None:
        self._say, self._seconds = say, drain_seconds
        self._end: SweepError | None = None
        self._asked = 0.0
        """When a signal last asked for the end."""
        self._dropping = False
        self._drain: Callable[[], None] | None = None
        self._beginning: threading.Thread | None = None
        self._timer: threading.Timer | None = None

    @property
    def end(self) -> SweepError | None:
        """As what the run ends, once it was asked to; otherwise None."""
        return self._end

    def __enter__(self) -> "Interrupts":
        heard = [number for number in _SIGNALS if not _is_ignored_hang_up(number)]
        self._before = {number: signal.signal(number, self._on_signal) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        self._lift_deadline()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ask(self, end: SweepError, *, drop: bool = False) -> None:
        """End the run with `end`, from any thread; `drop` leaves nothing in flight to finish.

        Without `drop`, what drains already, or has drained, is left to it.
        """
        self._end = self._end or end
        self._dropping = self._dropping or drop
        if drop or self._beginning is None:
            os.kill(os.getpid(), signal.SIGINT)

    @contextmanager
    def draining(self, drain: Callable[[], None]) -> Iterator[None]:
        """While inside, the first signal calls `drain`, which must let the block end soon.

        Raises KeyboardInterrupt at the end of a block that was drained.
        """
        self._drain = drain
        try:
            yield
        finally:
            self._drain = None
            self._lift_deadline()
        if self._end is not None:
            raise KeyboardInterrupt

    def _lift_deadline(self) -> None:
        """The deadline is for what was in flight, not for what comes after it."""
        if self._beginning is not None:
            self._beginning.join()
        if self._timer is not None:
            self._timer.cancel()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        before, self._asked = self._asked, time.monotonic()
        if number == signal.SIGHUP:
            _leave_terminal()
        if self._end is not None and (
            number == signal.SIGHUP or (number == signal.SIGTERM and self._asked - before < REPEAT_SECONDS)
        ):
            return
        self._end = self._end or Stopped(f"stopped by {_SIGNALS[signal.Signals(number)]}")
        if self._drain is None or self._beginning is not None or self._dropping:
            self._dropping = True
            raise KeyboardInterrupt
        # Not here: the main thread may be in the middle of printing, or hold a lock.
        self._beginning = threading.Thread(target=self._begin, args=(self._drain,), daemon=True)
        self._beginning.start()

    def _begin(self, drain: Callable[[], None]) -> None:
        drain()
        self._timer = threading.Timer(self._seconds, os.kill, (os.getpid(), signal.SIGINT))
        self._timer.daemon = True
        self._timer.start()
        with suppress(OSError, ValueError):  # whoever asked may have taken the terminal along
            self._say(
                f"{self._end}: finishing what is in flight, for at most {self._seconds:.0f} s; "
                "another Ctrl-C drops it"
            )


def _is_ignored_hang_up(number: int) -> bool:
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


def _leave_terminal() -> None:
    """Let standard streams that lead to a terminal which is gone lead nowhere: writing to them would fail."""
    for descriptor in (0, 1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:  # a file or a pipe is no terminal, and is kept
                with suppress(OSError):
                    silence(descriptor)
