"""The loop that feeds the workers: at most two calls in flight each, results as they come.

Every usable node holds as many workers as its resources allow, pinned to it; the pool looks again every few seconds,
so it grows and shrinks with the cluster. A worker that dies is replaced, the piece it was at counts a failure, and
what waited behind that piece goes to another worker without one. Which piece it was at the store knows better than
Ray, as a worker may die before Ray has passed on that it had ended one. A piece that has failed three times is given
up; it is tried on different nodes, where there are several. Where memory runs out the node gets fewer workers first,
and a piece is blamed only if it was alone there. Where it is the store that refuses everywhere, no piece is to blame
and nothing else could be stored: the pool hands out no more.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectLostError,
    RayError,
    RayTaskError,
    UnserializableException,
)

from sweep.actors.devices import Share
from sweep.actors.growth import AT_ONCE, Growth
from sweep.actors.nodes import ATTEMPTS, Nodes
from sweep.actors.queue import Failure, Queue, Task
from sweep.actors.reasons import lacks_memory, last_line
from sweep.actors.root import RootError
from sweep.actors.seats import UNREACHABLE, Seat, start_worker, verdict
from sweep.errors import StoreError, WorkError
from sweep.stages.loaded import Context
from sweep.stages.stage import Piece

IN_FLIGHT = 2
"""Calls per worker: one that runs and one that waits, so a worker never idles between pieces of work."""
LOOK_SECONDS = 5.0
"""How often the pool looks at the cluster's nodes."""
PATIENCE_SECONDS = 1800.0
"""How long a pool without any worker waits for the cluster to offer one."""


class WorkerPool:
    """Workers as the cluster has room for, from the first work they get until leaving the `with` block."""

    def __init__(self, context: Context, nodes: Nodes | None = None, *, growing: bool = False) -> None:
        """`growing` asks the cluster for more nodes while work waits, as an autoscaling cluster understands it."""
        # Every call names the context; in a list the reference is not resolved by Ray for each call but by the
        # worker once.
        self._context = [ray.put(context)]
        self._store, self._worker_bytes = context.store, context.worker_bytes
        self.nodes = nodes or Nodes(context.store)
        """What is known of the cluster's nodes."""
        self._growth = Growth() if growing else None
        self._seats: list[Seat] = []
        self._calls: dict[Any, Seat] = {}
        """Calls in flight, also those by which a worker only says that it is ready."""
        self._draining = threading.Event()
        self._looked = self._served = 0.0

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._growth:
            self._growth.stop()
        for seat in self._seats:
            ray.kill(seat.actor)

    def drain(self) -> None:
        """Hand out no more work; `run` returns once the calls in flight have ended. Callable from any thread."""
        self._draining.set()

    def dismiss(self) -> None:
        """End all workers, as what follows needs their places; `run` starts others."""
        for seat in list(self._seats):
            self._dismiss(seat)

    def hire(self, count: int) -> list[Any]:
        """Workers for `count` tasks that are handed out elsewhere, once all that could be started are ready.

        Raises WorkError as `run` does.
        """
        self._looked, self._served = 0.0, time.monotonic()
        self._calls |= {seat.actor.ready.remote(): seat for seat in self._seats if seat.ready}
        nothing = Queue(())
        while True:
            self._look(lambda at_most: min(count, at_most))
            able = [seat for seat in self._seats if seat.ready]
            if able and not self._calls:
                return [seat.actor for seat in able[:count]]
            if not able:
                self._check_patience()
            self._hear(nothing, lambda _: None)

    def run(self, pieces: Iterable[Piece], on_done: Callable[[int], None]) -> list[Failure]:
        """Do all `pieces`, calling `on_done` with the number of units each has stored; returns what failed.

        Raises WorkError where the cluster offers no worker for half an hour, or no node can do the work.
        """
        queue = Queue(pieces)
        failures: list[Failure] = []
        self._looked, self._served = 0.0, time.monotonic()
        while True:
            if not self._draining.is_set() and queue.holding(1):
                self._look(queue.holding)
                self._feed(queue)
            at_work = any(seat.flying for seat in self._seats)
            if not at_work and (self._draining.is_set() or not queue.holding(1)):
                break
            if not any(seat.ready for seat in self._seats):
                self._check_patience()
            failures.extend(self._hear(queue, on_done))
        if self._growth:
            self._growth.stop()
        return failures

    def _hear(self, queue: Queue, on_done: Callable[[int], None]) -> list[Failure]:
        """Wait for the next call that ends, for a while; returns what failed for good."""
        if not self._calls:
            time.sleep(1.0)
            return []
        failures: list[Failure] = []
        for call in ray.wait(list(self._calls), num_returns=1, timeout=LOOK_SECONDS)[0]:
            failures.extend(self._settle(call, queue, on_done))
        self._leave_unusable(queue, on_done)
        return failures

    def _look(self, holding: Callable[[int], int]) -> None:
        """Start the workers that usable nodes lack, no more than there are tasks; end those that are too many.

        `holding` counts the tasks that wait, up to a number.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for seat in [seat for seat in self._surplus() if not seat.flying]:
            self._dismiss(seat)
        for node, resources in self.nodes.usable().items():
            lacking = self.nodes.shares(node, resources, self._worker_bytes)
            for seat in self._seats:
                if seat.node == node and seat.share in lacking:
                    lacking.remove(seat.share)
            idle = sum(not seat.flying for seat in self._seats)
            useful = max(holding(idle + len(lacking)) - idle, 0)
            self._seats += [self._start(node, share) for share in lacking[:useful]]
        if self._growth:
            self._growth.ask(holding(AT_ONCE))

    def _start(self, node: str, share: Share) -> Seat:
        seat = Seat(node, share, start_worker(node, share))
        self._calls[seat.actor.start.remote(self.nodes.token)] = seat
        return seat

    def _surplus(self) -> list[Seat]:
        """Workers that their nodes may have no longer."""
        found: list[Seat] = []
        for node in {seat.node for seat in self._seats}:
            own = [seat for seat in self._seats if seat.node == node]
            found += own[self.nodes.most_workers(node) :]
        return found

    def _feed(self, queue: Queue) -> None:
        surplus = self._surplus()
        able = [seat for seat in self._seats if seat.ready and seat not in surplus]
        nodes = {seat.node for seat in able}
        for waiting in range(IN_FLIGHT):
            for seat in able:
                if len(seat.flying) == waiting and (task := queue.next(seat.node, nodes)):
                    call = seat.actor.do.remote(self._context, task.piece)
                    seat.flying.append((call, task))
                    self._calls[call] = seat

    def _settle(self, call: Any, queue: Queue, on_done: Callable[[int], None]) -> Iterable[Failure]:
        seat = self._calls.pop(call)
        self._served = time.monotonic()
        try:
            answer = ray.get(call)
        except RayError as error:
            lives = isinstance(error, RayTaskError | UnserializableException)
            if not (seat.ready and lives) or lacks_memory(error):
                return self._lost(seat, error, queue, on_done)
            return self._refused(seat, self._landed(seat, call), error, queue)
        if not seat.ready:
            seat.ready = True
            self.nodes.started(seat.node, answer)
            return ()
        if all(call != other for other, _ in seat.flying):  # it was asked whether it lives
            return ()
        task = self._landed(seat, call)
        on_done(len(task.piece.units))
        self.nodes.succeeded(seat.node, task.failed_on)
        self.nodes.measured(seat.node, answer)
        return ()

    def _refused(self, seat: Seat, task: Task, error: RayError, queue: Queue) -> Iterable[Failure]:
        """A piece of work ended with an error, and its worker lives."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, StoreError):
            if self.nodes.alone_lost_root(seat.node):
                self.nodes.set_aside(seat.node, f"{self.nodes.name(seat.node)}: {cause}")
                queue.put_back(task)
                return ()
            self.drain()
            return (Failure(task.piece, str(cause), task.failures + 1, refused=True),)
        if isinstance(cause, ActorUnavailableError | ObjectLostError):  # and stays lost for this piece
            return (Failure(task.piece, last_line(error), task.failures + 1, input_lost=True),)
        return self._failed(task, seat.node, last_line(error), queue)

    def _landed(self, seat: Seat, call: Any) -> Task:
        """Take a call that has ended off its worker's list."""
        index = next(index for index, (other, _) in enumerate(seat.flying) if other == call)
        task = seat.flying[index][1]
        del seat.flying[index]
        return task

    def _lost(
        self, seat: Seat, error: RayError, queue: Queue, on_done: Callable[[int], None]
    ) -> Iterable[Failure]:
        """A worker is gone: the task it was at has failed, unless its node went with it; those behind wait again."""
        error = verdict(seat, error)
        self._looked = 0.0
        node, node_lives = seat.node, seat.node in self.nodes.usable()
        workers = sum(other.node == node for other in self._seats)
        self._dismiss(seat)
        memory = node_lives and (lacks_memory(error) or self._was_killed_for_memory(node, error, workers))
        if memory and workers > 1:
            self.nodes.ran_out_of_memory(node, workers)
            return self._put_back(seat, queue, on_done)
        if not seat.ready:
            if isinstance(cause := getattr(error, "cause", None), RootError):
                self.nodes.set_aside(node, str(cause))
            elif node_lives:
                ready = sum(other.node == node and other.ready for other in self._seats)
                self.nodes.died_at_start(node, last_line(error), ready)
            return ()
        if not node_lives or isinstance(error, UNREACHABLE):
            return self._put_back(seat, queue, on_done)
        failures = self._put_back(seat, queue, on_done, f"its worker died: {last_line(error)}")
        if memory and failures:
            self.nodes.forgive_memory()
        return failures

    def _was_killed_for_memory(self, node: str, error: RayError, workers: int) -> bool:
        """Whether the kernel ended a worker; Ray cannot tell that from a crash. A lone worker's piece is blamed anyway."""
        asked = workers > 1 or self.nodes.most_workers(node) < sys.maxsize
        return asked and isinstance(error, ActorDiedError) and self.nodes.has_killed(node)

    def _dismiss(self, seat: Seat) -> None:
        """End a worker, and hear no more of its calls."""
        self._seats.remove(seat)
        self._calls = {call: other for call, other in self._calls.items() if other is not seat}
        ray.kill(seat.actor)

    def _leave_unusable(self, queue: Queue, on_done: Callable[[int], None]) -> None:
        """End the workers of nodes that were set aside."""
        for seat in [seat for seat in self._seats if self.nodes.is_aside(seat.node)]:
            self._dismiss(seat)
            self._put_back(seat, queue, on_done)

    def _put_back(
        self, seat: Seat, queue: Queue, on_done: Callable[[int], None], blamed: str | None = None
    ) -> tuple[Failure, ...]:
        """Let a dismissed worker's tasks wait again, but for what it had stored; `blamed` is why the first has failed."""
        left: list[Task] = []
        for _, task in seat.flying:
            units = task.piece.units
            if self._store.missing(units):
                left.append(task)
            else:
                on_done(len(units))
        failures: tuple[Failure, ...] = ()
        if left and blamed is not None:
            failures = self._failed(left.pop(0), seat.node, blamed, queue)
        for task in left:
            queue.put_back(task)
        return failures

    def _failed(self, task: Task, node: str, reason: str, queue: Queue) -> tuple[Failure, ...]:
        task = task.after_failure(node)
        if task.failures >= ATTEMPTS:
            return (Failure(task.piece, reason, task.failures),)
        queue.put_back(task)
        return ()

    def _check_patience(self) -> None:
        if time.monotonic() - self._served > PATIENCE_SECONDS:
            raise WorkError(
                f"the cluster offered no CPU or GPU for {PATIENCE_SECONDS / 60:.0f} minutes; look at `ray status`"
            )
