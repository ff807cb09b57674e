"""How a run ends before its time: first what is in flight is finished, for a while; then it is dropped.

Ctrl-C, SIGTERM, `sweep stop` and `sweep cancel` from another terminal, the loss of the lease and the loss of the
store all take this one way, by a signal to the main thread.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from sweep.errors import Stopped, SweepError

DRAIN_SECONDS = 20.0
"""How long units in flight may take to finish before they are dropped."""
_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupts:
    """Handles the signals inside the `with` block; must be entered in the main thread.

    The first signal during `draining` begins to drain; any other raises KeyboardInterrupt in the main thread.
    """

    def __init__(self, say: Callable[[str], None], drain_seconds: float = DRAIN_SECONDS) -> None:
        self._say, self._seconds = say, drain_seconds
        self._end: SweepError | None = None
        self._dropping = False
        self._drain: Callable[[], None] | None = None
        self._beginning: threading.Thread | None = None
        self._timer: threading.Timer | None = None

    @property
    def end(self) -> SweepError | None:
        """As what the run ends, once it was asked to; otherwise None."""
        return self._end

    def __enter__(self) -> "Interrupts":
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        self._lift_deadline()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ask(self, end: SweepError, *, drop: bool = False) -> None:
        """End the run with `end`, from any thread; `drop` leaves nothing in flight to finish."""
        self._end = self._end or end
        self._dropping = self._dropping or drop
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
        self._end = self._end or Stopped(f"stopped by {_SIGNALS[signal.Signals(number)]}")
        if self._drain is None or self._beginning is not None or self._dropping:
            self._dropping = True
            raise KeyboardInterrupt
        # Not here: the main thread may be in the middle of printing, or hold a lock.
        self._beginning = threading.Thread(target=self._begin, args=(self._drain,), daemon=True)
        self._beginning.start()

    def _begin(self, drain: Callable[[], None]) -> None:
        drain()
        self._say(
            f"{self._end}: finishing what is in flight, for at most {self._seconds:.0f} s; "
            "another Ctrl-C drops it"
        )
        self._timer = threading.Timer(self._seconds, os.kill, (os.getpid(), signal.SIGINT))
        self._timer.daemon = True
        self._timer.start()
