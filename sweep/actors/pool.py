"""The loop that feeds the workers: at most two calls in flight each, results as they come.

Every living node holds as many workers as its resources allow, pinned to it; the pool looks again every few seconds,
so it grows and shrinks with the cluster. A worker that dies is replaced, the piece it was at counts a failure, and
what waited behind that piece goes to another worker without one. Which piece it was at the store knows better than
Ray, as a worker may die before Ray has passed on that it had ended one. A piece that has failed three times is given up.
Where it is the store that refuses, no piece is to blame and nothing else could be stored: the pool hands out no more.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.actors.devices import Share, alive_nodes, shares_of
from sweep.actors.queue import Queue, Task
from sweep.actors.worker import Worker
from sweep.errors import StoreError, WorkError
from sweep.stages.loaded import Context
from sweep.stages.stage import Piece

IN_FLIGHT = 2
"""Calls per worker: one that runs and one that waits, so a worker never idles between pieces of work."""
ATTEMPTS = 3
"""How often a piece of work is tried, and how often in a row workers may die before they were ready."""
LOOK_SECONDS = 5.0
"""How often the pool looks at the cluster's nodes."""
VERDICT_SECONDS = 30.0
"""How long a worker that does not answer is asked before it is given up without a verdict."""
PATIENCE_SECONDS = 1800.0
"""How long a pool without any worker waits for the cluster to offer one."""
SCOUTS = 4
"""How many more nodes of a kind an autoscaling cluster is asked for at a time."""


@dataclass(frozen=True)
class Failure:
    """A piece of work that could not be done."""

    piece: Piece
    reason: str
    attempts: int
    refused: bool = False
    """Whether it was the store that refused, for longer than it is waited for."""
    input_lost: bool = False
    """Whether something that another process was to make for it was lost, with a node as a rule."""


@dataclass(eq=False)
class _Seat:
    """A worker on its node."""

    node: str
    share: Share
    actor: Any
    ready: bool = False
    flying: deque[tuple[Any, Task]] = field(default_factory=deque)
    """Its calls in the order in which it does them."""


def start_worker(node: str, share: Share) -> Any:
    """A worker pinned to a node; it is not restarted when it dies."""
    actor: Any = ray.remote(
        num_cpus=share.cpus,
        num_gpus=share.gpus,
        max_restarts=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )(Worker)
    return actor.remote(share.threads)


class WorkerPool:
    """Workers as the cluster has room for, from the first work they get until leaving the `with` block."""

    def __init__(self, context: Context, *, growing: bool = False) -> None:
        """`growing` asks the cluster for more nodes while work waits, as an autoscaling cluster understands it."""
        # Every call names the context; in a list the reference is not resolved by Ray for each call but by the
        # worker once.
        self._context = [ray.put(context)]
        self._store = context.store
        self._growing = growing
        self._seats: list[_Seat] = []
        self._calls: dict[Any, _Seat] = {}
        """Calls in flight, the first one of a worker included, which only says that it is ready."""
        self._scouts: dict[str, list[Any]] = {"CPU": [], "GPU": []}
        self._draining = threading.Event()
        self._deaths_in_a_row = 0
        self._looked = self._served = 0.0

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self._dismiss_scouts()
        for seat in self._seats:
            ray.kill(seat.actor)

    def drain(self) -> None:
        """Hand out no more work; `run` returns once the calls in flight have ended. Callable from any thread."""
        self._draining.set()

    def run(self, pieces: Iterable[Piece], on_done: Callable[[int], None]) -> list[Failure]:
        """Do all `pieces`, calling `on_done` with the number of units each has stored; returns what failed.

        Raises WorkError where the cluster offers no worker for half an hour, or workers die at their start.
        """
        queue = Queue(pieces)
        failures: list[Failure] = []
        self._looked, self._served = 0.0, time.monotonic()
        while True:
            if not self._draining.is_set() and queue.holding(1):
                self._look(queue)
                self._feed(queue)
            at_work = any(seat.flying for seat in self._seats)
            if not at_work and (self._draining.is_set() or not queue.holding(1)):
                break
            if not any(seat.ready for seat in self._seats):
                self._check_patience()
            if not self._calls:
                time.sleep(1.0)
                continue
            for call in ray.wait(list(self._calls), num_returns=1, timeout=LOOK_SECONDS)[0]:
                failures.extend(self._settle(call, queue, on_done))
        self._dismiss_scouts()
        return failures

    def _look(self, queue: Queue) -> None:
        """Start the workers that living nodes lack, no more than there are tasks."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for node, resources in alive_nodes().items():
            lacking = shares_of(resources)
            for seat in self._seats:
                if seat.node == node and seat.share in lacking:
                    lacking.remove(seat.share)
            idle = sum(not seat.flying for seat in self._seats)
            useful = max(queue.holding(idle + len(lacking)) - idle, 0)
            self._seats += [self._start(node, share) for share in lacking[:useful]]
        if self._growing:
            self._send_scouts(queue.holding(SCOUTS))

    def _start(self, node: str, share: Share) -> _Seat:
        seat = _Seat(node, share, start_worker(node, share))
        self._calls[seat.actor.ready.remote()] = seat
        return seat

    def _feed(self, queue: Queue) -> None:
        for waiting in range(IN_FLIGHT):
            for seat in self._seats:
                if seat.ready and len(seat.flying) == waiting and (task := queue.next()):
                    call = seat.actor.do.remote(self._context, task.piece)
                    seat.flying.append((call, task))
                    self._calls[call] = seat

    def _settle(self, call: Any, queue: Queue, on_done: Callable[[int], None]) -> Iterable[Failure]:
        seat = self._calls.pop(call)
        self._served = time.monotonic()
        try:
            ray.get(call)
        except RayTaskError as error:
            if not seat.ready:
                return self._lost(seat, error, queue, on_done)
            task = self._landed(seat, call)
            if isinstance(error.cause, StoreError):
                self.drain()
                return (Failure(task.piece, str(error.cause), task.failures + 1, refused=True),)
            if isinstance(
                error.cause, ActorUnavailableError | ObjectLostError
            ):  # and stays lost for this piece
                return (Failure(task.piece, last_line(error), task.failures + 1, input_lost=True),)
            return self._failed(task, last_line(error), queue)
        except RayError as error:
            return self._lost(seat, error, queue, on_done)
        if seat.ready:
            on_done(len(self._landed(seat, call).piece.units))
        seat.ready, self._deaths_in_a_row = True, 0
        return ()

    def _landed(self, seat: _Seat, call: Any) -> Task:
        """Take a call that has ended off its worker's list."""
        index = next(index for index, (other, _) in enumerate(seat.flying) if other == call)
        task = seat.flying[index][1]
        del seat.flying[index]
        return task

    def _lost(
        self, seat: _Seat, error: RayError, queue: Queue, on_done: Callable[[int], None]
    ) -> Iterable[Failure]:
        """A worker is gone: the task it was at has failed, unless its node went with it; those behind wait again."""
        self._seats.remove(seat)
        for call, _ in seat.flying:
            self._calls.pop(call, None)
        error = _verdict(seat, error)
        ray.kill(seat.actor)
        self._looked = 0.0
        node_lives = seat.node in alive_nodes()
        if not seat.ready:
            self._deaths_in_a_row += node_lives
            if self._deaths_in_a_row >= ATTEMPTS:
                raise WorkError(f"workers die at their start: {last_line(error)}")
            return ()
        to_blame = isinstance(error, ActorDiedError | OutOfMemoryError) and node_lives
        left: list[Task] = []
        for _, task in seat.flying:
            units = task.piece.units
            if self._store.missing(units):
                left.append(task)
            else:
                on_done(len(units))
        failures: Iterable[Failure] = ()
        if left and to_blame:
            failures = self._failed(left.pop(0), f"its worker died: {last_line(error)}", queue)
        for task in left:
            queue.put_back(task)
        return failures

    def _failed(self, task: Task, reason: str, queue: Queue) -> Iterable[Failure]:
        task = Task(task.piece, task.failures + 1)
        if task.failures >= ATTEMPTS:
            return (Failure(task.piece, reason, task.failures),)
        queue.put_back(task)
        return ()

    def _check_patience(self) -> None:
        if time.monotonic() - self._served > PATIENCE_SECONDS:
            raise WorkError(
                f"the cluster offered no CPU or GPU for {PATIENCE_SECONDS / 60:.0f} minutes; look at `ray status`"
            )

    def _send_scouts(self, wanted: int) -> None:
        """Keep tasks pending that a full cluster can place on new nodes only.

        Unlike a standing request to the autoscaler they end with the driver, so no node is held for a run that is gone.
        """
        for kind, scouts in self._scouts.items():
            if scouts:
                _, self._scouts[kind] = ray.wait(scouts, num_returns=len(scouts), timeout=0)
            while len(self._scouts[kind]) < wanted:
                remote: Any = ray.remote(num_cpus=int(kind == "CPU"), num_gpus=int(kind == "GPU"))(_scout)
                self._scouts[kind].append(remote.remote())

    def _dismiss_scouts(self) -> None:
        for scouts in self._scouts.values():
            while scouts:
                ray.cancel(scouts.pop())


def _verdict(seat: _Seat, error: RayError) -> RayError:
    """Why a worker is gone: Ray may first say only that it does not answer, and soon after that it has died."""
    until = time.monotonic() + VERDICT_SECONDS
    while isinstance(error, ActorUnavailableError | GetTimeoutError) and time.monotonic() < until:
        try:
            ray.get(seat.actor.ready.remote(), timeout=LOOK_SECONDS)
            break
        except RayError as later:
            error = later
            time.sleep(0.1)
    return error


def _scout() -> None:
    """Nothing: that it ran says there is room."""


def last_line(error: Exception) -> str:
    """What a remote error says in one line, without its traceback."""
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[-1] if lines else ''}"
