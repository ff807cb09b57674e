"""What a person sees while a study runs: stages, units done of total, rate and time left."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from sweep.terminal.forecast import Forecast
from sweep.terminal.lasting import LastingStream
from sweep.terminal.notebook import INTERVAL, NotebookLines, in_notebook

PLAIN_INTERVAL = 10.0
"""Seconds between two lines of a stage where the output is no terminal."""


def time_left(seconds: float) -> str:
    """'1:05 left' for 65 seconds, '2:00:00 left' for two hours."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d} left" if hours else f"{minute}:{second:02d} left"


class Display:
    """Live bars on a terminal, a line per stage in a notebook, plain lines on standard error elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=cast(TextIO, LastingStream(sys.stderr)))
        self._live = self._console.is_terminal
        self._notebook = NotebookLines() if in_notebook() else None
        self._interval = PLAIN_INTERVAL if self._notebook is None else INTERVAL
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
        )
        self._task: TaskID | None = None
        self._name, self._total, self._stored, self._done = "", 0, 0, 0
        self._begun = self._printed = 0.0
        self.forecast: Forecast | None = None
        """What the whole study was expected to take; with one, its time left is shown beside that of the stage."""
        self._spent: dict[str, float] = {}
        self.on_finish: Callable[[str, int, float], None] = lambda stage, units, seconds: None
        """Told of every stage that ends: its name, units stored, and seconds."""

    def __enter__(self) -> "Display":
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()

    def stage(self, name: str, total: int, stored: int) -> None:
        """Begin a stage of `total` units, of which `stored` were there before."""
        self._name, self._total, self._stored, self._done = name, total, stored, 0
        self._begun = self._printed = time.monotonic()
        if self._live:
            self._task = self._progress.add_task(name, total=total, completed=stored, rate="", left="")
        elif stored < total:
            self._line(f"{name}: {stored}/{total} stored")

    def advance(self, units: int) -> None:
        """Count `units` more as stored."""
        self._done += units
        completed, now = self._stored + self._done, time.monotonic()
        if self._live and self._task is not None:
            self._progress.update(self._task, completed=completed, rate=self._rate(now), left=self._left(now))
        elif now - self._printed >= self._interval and completed < self._total:
            self._printed = now
            self._line(f"{self._name}: {completed}/{self._total}, {self._status(now)}")

    def finish(self) -> None:
        """End the stage."""
        now = time.monotonic()
        completed = self._stored + self._done
        if self._live and self._task is not None:
            text = "stored before" if not self._done else ""
            self._progress.update(self._task, completed=completed, rate=self._rate(now), left=text)
            self._progress.stop_task(self._task)
        else:
            spent = f"done in {now - self._begun:.1f} s" if self._done else "stored before"
            self._line(f"{self._name}: {completed}/{self._total}, {spent}")
        if self._done:
            self._spent[self._name] = now - self._begun
        self.on_finish(self._name, self._done, now - self._begun)

    def say(self, message: str, *, style: str = "") -> None:
        """Print a line among the bars."""
        self._console.print(Text(message, style=style), soft_wrap=True)

    def _line(self, text: str) -> None:
        """Say how far the stage is: a line of its own, or in a notebook the stage's one line."""
        if self._notebook is None:
            self._console.print(text, highlight=False)
        else:
            self._notebook.show(self._name, text)

    def _rate(self, now: float) -> str:
        return f"{self._done / max(now - self._begun, 1e-3):.1f}/s" if self._done else ""

    def _left(self, now: float) -> str:
        remaining = self._total - self._stored - self._done
        if not self._done or not remaining:
            return ""
        elapsed = now - self._begun
        own = time_left(remaining * elapsed / self._done)
        if self.forecast is None:
            return own
        share = self._done / (self._total - self._stored)
        whole = self.forecast.left(self._spent, self._name, share, elapsed)
        return own if whole is None else f"{own}, study {time_left(whole)}"

    def _status(self, now: float) -> str:
        return f"{self._rate(now)}, {self._left(now)}"
