"""The worker pool on a real local Ray: work is done, failures are told apart, lost workers come back."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from sweep.actors.devices import Share, share_of_cluster
from sweep.actors.pool import WorkerPool
from sweep.actors.work import Context, Similarity
from sweep.arrays import lists
from sweep.keys import key_of
from sweep.schemas import SCHEMAS
from sweep.store import Store, Unit


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def map_unit(store: Store, name: str) -> Unit:
    """Store maps of two images for a model called `name`."""
    unit = Unit("relevance", name, key_of("map", name), 2)
    maps = np.random.default_rng(len(name)).normal(size=(2, 9)).astype(np.float32)
    fixed = {"model_id": [name] * 2, "image_id": ["a", "b"], "target_class": ["c"] * 2, "logit": [1.0] * 2}
    rows = fixed | {"max_abs": [1.0] * 2, "height": [3] * 2, "width": [3] * 2, "map": lists(maps)}
    store.write(unit, pa.table(rows), SCHEMAS["relevance"])
    return unit


def piece(store: Store, index: int, maps: tuple[Unit, Unit]) -> Similarity:
    wanted = Unit("similarity", f"pair{index}", key_of("pair", index), 2)
    return Similarity((0, 1), ("first", "second"), maps, ((1, wanted),))


def context(store: Store) -> Context:
    return Context(store, ("a", "b"), ("ka", "kb"), ray.put(np.zeros((2, 3, 3, 3), np.uint8)), {}, {})


def worker_processes() -> list[int]:
    """Process ids of the pool's workers; Ray names a process after the actor it runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # a process may end while we look
            if path.read_bytes().startswith(b"ray::Worker"):
                found.append(int(path.parent.name))
    return found


def units(pieces: list[Similarity]) -> list[Unit]:
    return [unit for one in pieces for _, unit in one.wanted]


def test_all_work_is_done_but_for_the_piece_whose_input_is_missing(store: Store) -> None:
    maps = (map_unit(store, "first"), map_unit(store, "second"))
    absent = Unit("relevance", "absent", key_of("absent"), 2)
    pieces: list[Any] = [piece(store, index, maps) for index in range(6)]
    pieces.insert(2, piece(store, 99, (maps[0], absent)))
    done: list[int] = []
    with WorkerPool(context(store), Share(count=2, cpus=1, gpus=0)) as pool:
        failures = pool.run(pieces, done.append)
    assert sum(done) == 6
    (failure,) = failures
    assert failure.work == pieces[2]
    assert "absent" in failure.reason
    assert "no such file; run the study again" in failure.reason
    assert store.missing(units(pieces)) == units([pieces[2]])


def test_a_worker_that_is_killed_comes_back_and_its_work_is_repeated(store: Store) -> None:
    maps = (map_unit(store, "first"), map_unit(store, "second"))
    pieces: list[Any] = [piece(store, index, maps) for index in range(8)]
    killed: list[int] = []

    def kill_once(_: int) -> None:
        if not killed:
            (process,) = worker_processes()
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    with WorkerPool(context(store), Share(count=1, cpus=1, gpus=0)) as pool:
        failures = pool.run(pieces, kill_once)
    assert failures == []
    assert len(killed) == 1
    assert store.missing(units(pieces)) == []


def test_a_share_follows_the_cluster() -> None:
    assert share_of_cluster() == Share(count=2, cpus=1, gpus=0)
