"""The loop that feeds the workers: at most two calls in flight each, results as they come."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from sweep.actors.devices import Share
from sweep.actors.work import Context, Work, units_of
from sweep.actors.worker import Worker

IN_FLIGHT = 2
"""Calls per worker: one that runs and one that waits, so a worker never idles between pieces of work."""
RESTARTS = 3
"""How often a worker that dies is started again, and a call that was lost with it is repeated."""


@dataclass(frozen=True)
class Failure:
    """A piece of work that could not be done."""

    work: Work
    reason: str


class WorkerPool:
    """Workers as the cluster has room for, from the first work they get until leaving the `with` block."""

    def __init__(self, context: Context, share: Share) -> None:
        self._share = share
        self._workers: list[Any] = []
        # Every call names the context, so a worker that was restarted finds it again; in a list the reference is
        # not resolved by Ray for each call but by the worker once.
        self._context = [ray.put(context)]

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            ray.kill(worker)

    def run(self, pieces: Sequence[Work], on_done: Callable[[int], None]) -> list[Failure]:
        """Do all `pieces`, calling `on_done` with the number of units each has stored; returns what failed."""
        if pieces and not self._workers:
            self._start()
        waiting = iter(pieces)
        failures: list[Failure] = []
        flying: dict[Any, tuple[Any, Work]] = {}
        for worker in self._workers * IN_FLIGHT:
            self._feed(worker, waiting, flying)
        while flying:
            (done,), _ = ray.wait(list(flying), num_returns=1)
            worker, piece = flying.pop(done)
            try:
                ray.get(done)
                on_done(len(units_of(piece)))
            except RayTaskError as error:
                failures.append(Failure(piece, last_line(error)))
            except RayActorError as error:
                failures.append(Failure(piece, f"its worker died {RESTARTS + 1} times: {last_line(error)}"))
                self._workers = [other for other in self._workers if other is not worker]
                if not self._workers:
                    failures.extend(Failure(rest, "no worker is left") for rest in waiting)
                continue
            self._feed(worker, waiting, flying)
        return failures

    def _start(self) -> None:
        share = self._share
        actor: Any = ray.remote(
            num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=RESTARTS, max_task_retries=RESTARTS
        )(Worker)
        self._workers = [actor.remote(math.ceil(share.cpus)) for _ in range(share.count)]

    def _feed(self, worker: Any, waiting: Iterable[Work], flying: dict[Any, tuple[Any, Work]]) -> None:
        piece = next(iter(waiting), None)
        if piece is not None:
            flying[worker.do.remote(self._context, piece)] = (worker, piece)


def last_line(error: Exception) -> str:
    """What a remote error says in one line, without its traceback."""
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[-1] if lines else ''}"
