"""The pieces of work that wait for a worker, drawn from a source that is read no further than needed."""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from sweep.stages.stage import Piece


@dataclass(frozen=True)
class Task:
    """A piece of work, how often it has failed, and on which nodes."""

    piece: Piece
    failures: int = 0
    failed_on: frozenset[str] = frozenset()

    def after_failure(self, node: str) -> "Task":
        """The task once it has failed on a node."""
        return replace(self, failures=self.failures + 1, failed_on=self.failed_on | {node})


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


class Queue:
    """Tasks in order; those that come back go to the end, so that they hold nothing up."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._fresh = iter(pieces)
        self._ahead: deque[Task] = deque()
        self._returned: deque[Task] = deque()

    def put_back(self, task: Task) -> None:
        """Let a task wait again."""
        self._returned.append(task)

    def next(self, node: str = "", nodes: Collection[str] = ()) -> Task | None:
        """Take the next task for a node, or None where there is none.

        A task that has failed on the node is left to the others of `nodes`, as long as one of them has not failed at it.
        """
        if self.holding(1) and self._ahead:
            return self._ahead.popleft()
        for task in self._returned:
            if node not in task.failed_on or task.failed_on.issuperset(nodes):
                self._returned.remove(task)
                return task
        return None

    def holding(self, at_most: int) -> int:
        """How many tasks wait, counted no further than `at_most`."""
        while len(self._ahead) < at_most:
            piece = next(self._fresh, None)
            if piece is None:
                break
            self._ahead.append(Task(piece))
        return min(len(self._ahead) + len(self._returned), at_most)
