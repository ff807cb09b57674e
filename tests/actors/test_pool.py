"""The worker pool on a real local Ray: work is done, failures are told apart, lost workers come back."""

import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayError

from sweep.actors import worker
from sweep.actors.devices import Share, oom_kills
from sweep.actors.nodes import Nodes
from sweep.actors.pool import IN_FLIGHT, WorkerPool
from sweep.actors.queue import Queue, Task
from sweep.actors.seats import Seat, verdict
from sweep.actors.usage import Meter
from sweep.actors.worker import do_piece
from sweep.errors import WorkError
from sweep.keys import key_of
from sweep.stages.loaded import Context, Loaded
from sweep.stages.similarity import SimilarityPiece, Wanted
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Store, Unit
from tests.actors.maps import store_maps
from tests.chaos.harness import named
from tests.chaos.lethal import LethalStore


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


class Worker(worker.Worker):
    """The worker but for TensorFlow, which takes seconds to start and which similarities do not need."""

    def __init__(self, threads: int) -> None:
        self._loaded, self._trainers, self._meter = None, {}, Meter()


@pytest.fixture(autouse=True)
def _light_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.actors.seats.Worker", Worker)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def map_unit(store: Store, name: str) -> Unit:
    """Store maps of two images for a model called `name`."""
    return store_maps(store, name, np.random.default_rng(len(name)).normal(size=(2, 9)).astype(np.float32))


def piece(store: Store, index: int, maps: tuple[Unit, Unit], label: str = "pair") -> SimilarityPiece:
    wanted = Unit("similarity", label, key_of("pair", index), 2)
    read = {"first": (maps[0],), "second": (maps[1],)}
    return SimilarityPiece((0, 1), read, (Wanted(wanted, "second", ("first",), ()),))


def around_poison(store: Store, count: int) -> list[Any]:
    """`count` pieces that can be done, and one that reads the unit 'poisoned' in the second place."""
    maps = (map_unit(store, "first"), map_unit(store, "second"))
    pieces: list[Any] = [piece(store, index, maps) for index in range(count)]
    pieces.insert(1, piece(store, 99, (Unit("relevance", "poisoned", key_of("poisoned"), 2), maps[1])))
    return pieces


def context(store: Store) -> Context:
    pixels = ray.put(np.zeros((2, 3, 3, 3), np.uint8))
    return Context(store, SCHEMAS, ("a", "b"), ("ka", "kb"), {}, {}, pixels, {}, {})


def worker_processes() -> list[int]:
    """Process ids of the pool's workers; Ray names a process after the actor it runs."""
    return named(os.getpid(), "ray::Worker")


def units(pieces: list[SimilarityPiece]) -> list[Unit]:
    return [unit for one in pieces for unit in one.units]


def kill_workers(only: int | None = None) -> list[int]:
    killed = worker_processes()[:only]
    for process in killed:
        os.kill(process, signal.SIGKILL)
    return killed


def test_all_work_is_done_but_for_the_piece_whose_input_is_missing(store: Store) -> None:
    maps = (map_unit(store, "first"), map_unit(store, "second"))
    absent = Unit("relevance", "absent", key_of("absent"), 2)
    pieces: list[Any] = [piece(store, index, maps) for index in range(6)]
    pieces.insert(2, piece(store, 99, (maps[0], absent)))
    done: list[int] = []
    told: list[tuple[str, Mapping[str, float]]] = []
    nodes = Nodes(store, on_usage=lambda node, usage: told.append((node, usage)))
    with WorkerPool(context(store), nodes) as pool:
        failures = pool.run(pieces, done.append)
    assert sum(done) == 6
    assert {node for node, _ in told} == {socket.gethostname()}
    assert [usage["worker_peak_memory_megabytes"] > 0 for _, usage in told] == [True] * 6
    (failure,) = failures
    assert failure.piece == pieces[2]
    assert failure.attempts == 3
    assert "absent" in failure.reason
    assert "no such file; run the study again" in failure.reason
    assert store.missing(units(pieces)) == units([pieces[2]])


def test_workers_that_are_killed_are_replaced_and_their_work_is_repeated(store: Store) -> None:
    maps = (map_unit(store, "first"), map_unit(store, "second"))
    pieces: list[Any] = [piece(store, index, maps) for index in range(12)]
    killed: list[int] = []

    def kill_twice(_: int) -> None:
        if len(killed) < 2:
            killed.extend(kill_workers())

    with WorkerPool(context(store)) as pool:
        failures = pool.run(iter(pieces), kill_twice)
    assert failures == []
    assert len(killed) >= 2
    assert store.missing(units(pieces)) == []


def test_a_piece_that_kills_its_worker_is_given_up_and_takes_nothing_with_it(tmp_path: Path) -> None:
    store = LethalStore(str(tmp_path))
    pieces = around_poison(store, 6)
    with WorkerPool(context(store)) as pool:
        failures = pool.run(pieces, lambda _: None)
    (failure,) = failures
    assert failure.piece == pieces[1]
    assert failure.attempts == 3
    assert "worker died" in failure.reason
    assert (tmp_path / "deaths").read_text() == "xxx"
    assert store.missing(units(pieces)) == units([pieces[1]])


def test_a_worker_that_dies_before_its_answer_arrives_has_done_what_it_stored(tmp_path: Path) -> None:
    store = LethalStore(str(tmp_path))
    maps = (map_unit(store, "first"), map_unit(store, "second"))
    pieces: list[Any] = [piece(store, index, maps) for index in range(5)]
    pieces.insert(1, piece(store, 99, maps, "last words"))
    done: list[int] = []
    with WorkerPool(context(store)) as pool:
        assert pool.run(pieces, done.append) == []
    assert sum(done) == 6
    assert (tmp_path / "deaths").read_text() == "x"
    assert store.missing(units(pieces)) == []


@pytest.mark.parametrize("death", [ActorDiedError(), OutOfMemoryError("killed by Ray's memory monitor")])
def test_the_piece_behind_a_stored_one_is_blamed_for_a_death(store: Store, death: RayError) -> None:
    maps = (map_unit(store, "first"), map_unit(store, "second"))
    pieces = [piece(store, index, maps) for index in range(3)]
    do_piece(Loaded(context(store), ray.get), pieces[0])
    actor: Any = ray.remote(max_restarts=0)(Worker).remote(1)
    seat = Seat(ray.get_runtime_context().get_node_id(), Share(1, 0), actor, ready=True)
    seat.flying.extend((object(), Task(one)) for one in pieces)
    queue, done = Queue([]), list[int]()
    pool = WorkerPool(context(store))
    pool._seats.append(seat)
    assert pool._lost(seat, death, queue, done.append) == ()
    assert done == [1]
    assert [queue.next(), queue.next(), queue.next()] == [
        Task(pieces[1], 1, frozenset([seat.node])),
        Task(pieces[2]),
        None,
    ]


class _TwoArgumentError(Exception):
    """Cannot be read again where it arrives: unpickling calls it with the one argument that it passed on."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


class BrokenStore(Store):
    """Raises where the unit 'poisoned' is read, and notes each time in the file `reads`."""

    def read(self, units: Iterable[Unit], columns: Sequence[str] | None = None) -> pa.Table:
        wanted = list(units)
        if any(unit.label == "poisoned" for unit in wanted):
            with (Path(self.root) / "reads").open("a") as file:
                file.write("x")
            self.fail()
        return super().read(wanted, columns)

    def fail(self) -> None:
        raise _TwoArgumentError("no", "reason")


class GreedyStore(BrokenStore):
    """Finds no memory left where the unit 'poisoned' is read."""

    def fail(self) -> None:
        raise MemoryError("cannot allocate 9 GiB")


def test_an_error_that_cannot_be_read_here_is_the_fault_of_its_piece(tmp_path: Path) -> None:
    store = BrokenStore(str(tmp_path))
    pieces = around_poison(store, 3)
    with WorkerPool(context(store)) as pool:
        (failure,) = pool.run(pieces, lambda _: None)
    assert failure.piece == pieces[1]
    assert failure.attempts == 3
    assert failure.reason.endswith("no: reason")
    assert (tmp_path / "reads").read_text() == "xxx"
    assert store.missing(units(pieces)) == units([pieces[1]])


def test_where_memory_runs_out_workers_are_fewer_before_the_piece_is_blamed(tmp_path: Path) -> None:
    store, said = GreedyStore(str(tmp_path)), list[str]()
    pieces = around_poison(store, 8)
    nodes = Nodes(store, said.append)
    with WorkerPool(context(store), nodes) as pool:
        (failure,) = pool.run(pieces, lambda _: None)
    assert failure.piece == pieces[1]
    assert failure.attempts == 3
    assert "MemoryError: cannot allocate 9 GiB" in failure.reason
    assert (tmp_path / "reads").read_text() == "x" + "xxx"
    assert store.missing(units(pieces)) == units([pieces[1]])
    (line,) = said
    assert line.endswith("out of memory with 2 workers; this node goes on with 1 worker")
    assert nodes.most_workers(ray.get_runtime_context().get_node_id()) > 2


def test_a_kill_by_the_kernel_is_put_down_to_one_death(store: Store) -> None:
    node = ray.get_runtime_context().get_node_id()
    nodes = Nodes(store)
    nodes.started(node, oom_kills())
    assert not nodes.has_killed(node)
    # As after two kills more than there have been.
    nodes._kills[node] -= 2
    assert [nodes.has_killed(node) for _ in range(3)] == [True, True, False]


def test_where_no_node_sees_the_results_one_line_ends_the_run(store: Store) -> None:
    maps, nodes = (map_unit(store, "first"), map_unit(store, "second")), Nodes(store)
    store.files.delete(nodes.token.path)
    with WorkerPool(context(store), nodes) as pool, pytest.raises(WorkError) as refused:
        pool.run([piece(store, 1, maps)], lambda _: None)
    assert f" does not see {store.root}: use a folder that all nodes mount" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_where_the_store_refuses_nothing_is_tried_again(store: Store) -> None:
    maps = (map_unit(store, "first"), map_unit(store, "second"))
    pieces: list[Any] = [piece(store, index, maps) for index in range(40)]
    Path(store.root, "similarity").write_text("not a folder")
    with WorkerPool(context(store)) as pool:
        failures = pool.run(pieces, lambda _: None)
    assert 1 <= len(failures) <= 2 * IN_FLIGHT
    for failure in failures:
        assert failure.refused
        assert failure.attempts == 1
        assert failure.reason.startswith(f"{store.root}: ")


def test_a_worker_that_does_not_answer_is_asked_until_it_is_known_whether_it_died() -> None:
    unavailable = ActorUnavailableError("socket closed", None)
    actor: Any = ray.remote(max_restarts=0)(Worker).remote(1)
    seat = Seat("node", Share(1, 0), actor)
    ray.get(actor.ready.remote())
    assert verdict(seat, unavailable) is unavailable
    kill_workers()
    assert isinstance(verdict(seat, unavailable), ActorDiedError)


def test_a_drained_pool_ends_what_it_began_and_begins_nothing_more(store: Store) -> None:
    maps = (map_unit(store, "first"), map_unit(store, "second"))
    pieces: list[Any] = [piece(store, index, maps) for index in range(40)]
    done: list[int] = []
    with WorkerPool(context(store)) as pool:

        def drain_at_the_third(count: int) -> None:
            done.append(count)
            if len(done) == 3:
                pool.drain()

        assert pool.run(pieces, drain_at_the_third) == []
        begun = len(done)
        assert 3 <= begun <= 3 + 2 * IN_FLIGHT
        assert len(store.missing(units(pieces))) == 40 - begun
        assert pool.run(pieces, done.append) == []
        assert len(done) == begun


def test_workers_are_hired_once_replaced_where_they_died_and_work_afterwards(store: Store) -> None:
    maps = (map_unit(store, "first"), map_unit(store, "second"))
    pieces: list[Any] = [piece(store, index, maps) for index in range(4)]
    with WorkerPool(context(store)) as pool:
        (alone,) = pool.hire(1)
        both = pool.hire(5)
        assert len(both) == 2
        assert alone in both
        assert pool.hire(5) == both
        processes = worker_processes()
        (killed,) = kill_workers(only=1)
        assert len(pool.hire(5)) == 2
        (new,) = set(worker_processes()) - set(processes)
        assert killed not in worker_processes()
        done: list[int] = []
        assert pool.run(pieces, done.append) == []
        assert sum(done) == 4
        assert set(worker_processes()) == {new, *processes} - {killed}
        pool.dismiss()
        assert pool.run([piece(store, 9, maps)], done.append) == []
        assert not set(worker_processes()) & {new, *processes}


def test_pieces_are_drawn_no_further_than_needed() -> None:
    drawn: list[int] = []

    def pieces() -> Iterator[Any]:
        for index in range(100):
            drawn.append(index)
            yield index

    queue = Queue(pieces())
    assert queue.holding(3) == 3
    assert drawn == [0, 1, 2]
    order = [take(queue)]
    queue.put_back(Task(order[0], failures=1))
    assert queue.holding(2) == 2
    assert drawn == [0, 1, 2]
    order = [take(queue) for _ in range(100)]
    assert order == [*range(1, 100), 0]
    assert queue.next() is None


def take(queue: Queue) -> Any:
    task = queue.next()
    assert task is not None
    return task.piece
