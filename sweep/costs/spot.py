"""How long work takes on machines that may be taken back at any moment, by simulation.

The times until machines are taken back are drawn from an exponential distribution: a machine is as likely to go in the
next minute as in any other. The work of a stage is shared evenly; a machine that goes takes with it what it had done of
the piece in flight, and another is there after the time that a machine takes to start.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StageWork:
    """Work that must be complete before the next stage begins."""

    work: float
    """In seconds of one machine."""
    piece: float
    """Seconds that a piece of it takes: the most that is lost at once."""


@dataclass(frozen=True)
class Fleet:
    """The machines that do the work."""

    machines: int
    start: float
    """Seconds until a machine that was asked for works."""
    rate: float
    """How often a machine is taken back, per second."""


def simulate(stages: Sequence[StageWork], fleet: Fleet, draws: np.random.Generator) -> tuple[float, int]:
    """Seconds from asking for the machines to the end of the work, and how many machines were taken back.

    Goes from one event to the next, and takes pieces to be small: between events, work goes on at the rate of the
    machines that are there. Raises ValueError where machines go faster than they start, so that no end is in sight.
    """
    lifetime: Callable[[], float] = _lifetimes(fleet, draws)
    events = [(fleet.start, machine, "starts") for machine in range(fleet.machines)]
    heapq.heapify(events)
    now, working, taken = 0.0, 0, 0
    for stage in stages:
        left = stage.work
        while left > 0:
            at, machine, what = events[0]
            if working and now + left / working <= at:
                now += left / working
                break
            heapq.heappop(events)
            left, now = left - working * (at - now), at
            if what == "starts":
                working += 1
                heapq.heappush(events, (now + lifetime(), machine, "goes"))
            else:
                working, taken = working - 1, taken + 1
                left += min(draws.uniform(0, stage.piece), stage.work - left)
                heapq.heappush(events, (now + fleet.start, machine, "starts"))
            if taken > 1_000 * fleet.machines:
                raise ValueError("machines are taken back faster than they get work done")
    return now, taken


def _lifetimes(fleet: Fleet, draws: np.random.Generator) -> Callable[[], float]:
    if fleet.rate <= 0:
        return lambda: float("inf")
    return lambda: float(draws.exponential(1 / fleet.rate))
