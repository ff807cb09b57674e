"""The pieces of work that wait for a worker, drawn from a source that is read no further than needed."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from sweep.stages.stage import Piece


@dataclass(frozen=True)
class Task:
    """A piece of work, and how often it has failed."""

    piece: Piece
    failures: int = 0


class Queue:
    """Tasks in order; those that come back go to the end, so that they hold nothing up."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._fresh = iter(pieces)
        self._ahead: deque[Task] = deque()
        self._returned: deque[Task] = deque()

    def put_back(self, task: Task) -> None:
        """Let a task wait again."""
        self._returned.append(task)

    def next(self) -> Task | None:
        """Take the next task, or None where there is none."""
        if self.holding(1):
            return (self._ahead or self._returned).popleft()
        return None

    def holding(self, at_most: int) -> int:
        """How many tasks wait, counted no further than `at_most`."""
        while len(self._ahead) < at_most:
            piece = next(self._fresh, None)
            if piece is None:
                break
            self._ahead.append(Task(piece))
        return min(len(self._ahead) + len(self._returned), at_most)
