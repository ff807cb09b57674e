"""Work that failed on a node goes to another one, as long as there is one that has not failed at it."""

from typing import Any

from sweep.actors.queue import Queue, Task


def failed(work: Any, *nodes: str) -> Task:
    task = Task(work)
    for node in nodes:
        task = task.after_failure(node)
    return task


def test_fresh_work_comes_first_and_failed_work_goes_elsewhere() -> None:
    pieces: list[Any] = ["fresh"]
    queue, nodes = Queue(pieces), {"a", "b"}
    queue.put_back(failed("first", "a"))
    queue.put_back(failed("second", "b"))
    assert queue.next("a", nodes) == Task(pieces[0])
    assert queue.next("a", nodes) == failed("second", "b")
    assert queue.next("a", nodes) is None
    assert queue.holding(2) == 1
    assert queue.next("b", nodes) == failed("first", "a")


def test_work_that_failed_everywhere_is_tried_anywhere() -> None:
    queue = Queue([])
    queue.put_back(failed("first", "a", "b"))
    assert queue.next("a", {"a", "b"}) == failed("first", "a", "b")
    queue.put_back(failed("second", "a"))
    assert queue.next("a", {"a", "b"}) is None
    assert queue.next("a", {"a"}) == failed("second", "a")


def test_a_task_counts_its_failures_and_where_they_were() -> None:
    assert failed("work", "a", "a", "b") == Task("work", 3, frozenset({"a", "b"}))  # type: ignore[arg-type]
