"""How far a study is, from another terminal: what is stored now, and how fast that grew while we looked."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from sweep.plan import Plan
from sweep.stages import stages_of
from sweep.storage.store import Store
from sweep.terminal.progress import time_left

INTERVAL = 2.0
"""Seconds between two looks."""
SPARING = 10
"""The store is left alone so many times as long as a look took: listing a large study on an object store is no burden."""
WINDOW = 120.0
"""Seconds over which a rate is taken."""
PLAIN_INTERVAL = 10.0
"""Seconds between two lines of a stage where the output is no terminal."""
STILL = 60.0
"""Seconds without a new unit after which it is said that nothing happens."""


@dataclass
class Watched:
    """One stage as it was seen over time."""

    name: str
    total: int
    seen: deque[tuple[float, int]] = field(default_factory=deque)
    """Moments and the units stored at them, over the last WINDOW seconds."""

    @property
    def stored(self) -> int:
        """Units stored at the last look."""
        return self.seen[-1][1]

    def look(self, now: float, stored: int) -> None:
        """Take note of the units stored `now`, and forget what was too long ago."""
        self.seen.append((now, stored))
        while len(self.seen) > 2 and now - self.seen[1][0] >= WINDOW:
            self.seen.popleft()

    @property
    def rate(self) -> float:
        """Units per second over the window; 0 where nothing came."""
        (begun, before), (now, after) = self.seen[0], self.seen[-1]
        return (after - before) / (now - begun) if now > begun else 0.0

    @property
    def left(self) -> str:
        """How long the rest takes at this rate, or ''."""
        rest = self.total - self.stored
        return time_left(rest / self.rate) if rest and self.rate > 0 else ""


def watch(
    plan: Plan,
    store: Store,
    console: Console,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the stages of a study until every unit is stored: bars on a terminal, plain lines elsewhere.

    Reads only the names of stored units, so it works from any machine that reaches the results.
    """
    units = {name: stage.units(plan) for name, stage in stages_of(plan).items()}
    stages = {name: Watched(name, len(own)) for name, own in units.items()}
    shown = _Lines(console) if not console.is_terminal else _Bars(console)
    with shown:
        changed = clock()
        while True:
            begun = clock()
            before = [stage.stored for stage in stages.values() if stage.seen]
            for name, stage in stages.items():
                stage.look(begun, stage.total - len(store.missing(units[name])))
            if [stage.stored for stage in stages.values()] != before:
                changed = begun
            complete = all(stage.stored == stage.total for stage in stages.values())
            shown.show(stages, begun, begun - changed, complete)
            if complete:
                return
            sleep(max(INTERVAL, SPARING * (clock() - begun)))


class _Lines:
    """A line per stage that moved, no more often than every PLAIN_INTERVAL seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, tuple[float, int]] = {}
        self._still = False

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, stages: Mapping[str, Watched], now: float, still: float, complete: bool) -> None:
        for name, stage in stages.items():
            last, stored = self._told.get(name, (-PLAIN_INTERVAL, -1))
            finished = stage.stored == stage.total
            if stage.stored != stored and (finished or now - last >= PLAIN_INTERVAL):
                self._told[name] = (now, stage.stored)
                self._print(
                    ", ".join(filter(None, [f"{name}: {stage.stored}/{stage.total}", *_motion(stage)]))
                )
        if still >= STILL and not self._still:
            self._print(_standing(still))
        self._still = still >= STILL
        if complete:
            self._print("complete")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


class _Bars:
    """All stages at once, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> "_Bars":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, stages: Mapping[str, Watched], now: float, still: float, complete: bool) -> None:
        table = Table.grid(padding=(0, 2))
        for name, stage in stages.items():
            bar = ProgressBar(total=max(stage.total, 1), completed=stage.stored, width=32)
            table.add_row(name, bar, f"{stage.stored:,}/{stage.total:,}", *(_motion(stage) or ["", ""]))
        table.add_row("complete" if complete else _standing(still) if still >= STILL else "")
        self._live.update(table, refresh=True)


def _motion(stage: Watched) -> list[str]:
    return [f"{stage.rate:.1f}/s", stage.left] if stage.rate > 0 and stage.stored < stage.total else []


def _standing(still: float) -> str:
    return f"nothing new for {still:.0f} s: is a `sweep run` at work?"
