"""A piece of work that takes all memory: Ray's monitor, or the kernel, kills its worker, and the others are done."""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from sweep.actors.devices import oom_kills
from sweep.actors.nodes import ATTEMPTS, Nodes
from sweep.actors.pool import WorkerPool
from sweep.storage.store import Store, Unit
from tests.actors.test_pool import Worker, around_poison, context, units
from tests.chaos.harness import named, wait_until

pytestmark = pytest.mark.chaos

ROOM, STEP = 3 * 2**30, 2**26
"""Bytes that Ray lets be used from now on, and that are taken at a time."""


class HungryStore(Store):
    """Takes memory for as long as it lives where the unit 'poisoned' is read, up to twice what there is room for."""

    def read(self, units: Iterable[Unit], columns: Sequence[str] | None = None) -> pa.Table:
        wanted = list(units)
        if any(unit.label == "poisoned" for unit in wanted):
            taken = []
            for number in range(2 * ROOM // STEP):
                taken.append(bytes([1 + number % 255]) * STEP)
                time.sleep(0.02)
        return super().read(wanted, columns)


@pytest.fixture
def _little_memory() -> Iterator[None]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    memory = {name: 1024 * int(kibibytes) for name, kibibytes, *_ in lines}
    total, available = memory["MemTotal:"], memory["MemAvailable:"]
    if available < 3 * ROOM:
        pytest.skip(f"needs {3 * ROOM / 2**30:.0f} GiB of free memory")
    threshold = (total - available + ROOM) / total
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
        _system_config={"memory_usage_threshold": threshold, "memory_monitor_refresh_ms": 100},
    )
    yield
    ray.shutdown()


@pytest.mark.usefixtures("_little_memory")
def test_a_piece_that_takes_all_memory_is_given_up_and_the_others_are_done(tmp_path: Path) -> None:
    store = HungryStore(str(tmp_path))
    pieces = around_poison(store, 3)
    with WorkerPool(context(store)) as pool:
        (failure,) = pool.run(pieces, lambda _: None)
    assert failure.piece == pieces[1]
    assert failure.attempts == ATTEMPTS
    assert "memory" in failure.reason
    assert store.missing(units(pieces)) == units([pieces[1]])


@pytest.fixture
def _two_workers_in_a_small_group() -> Iterator[None]:
    """Every worker that starts on this Ray goes into a control group of 1 GiB, whose limit the kernel enforces."""
    group = Path("/sys/fs/cgroup/memory/sweep-test")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(2**30))
    except OSError as error:
        pytest.skip(f"needs leave to make a control group: {error}")
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ended = threading.Event()

    def enlist() -> None:
        while not ended.wait(0.05):
            for process in named(os.getpid(), "ray::Worker"):
                with suppress(OSError):
                    (group / "cgroup.procs").write_text(str(process))

    thread = threading.Thread(target=enlist)
    thread.start()
    yield
    ended.set()
    thread.join()
    ray.shutdown()
    assert wait_until(lambda: not (group / "cgroup.procs").read_text(), 30)
    group.rmdir()


@pytest.mark.usefixtures("_two_workers_in_a_small_group")
def test_after_a_kill_by_the_kernel_there_are_fewer_workers_before_a_piece_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.actors.seats.Worker", Worker)
    store, said = HungryStore(str(tmp_path)), list[str]()
    pieces, before = around_poison(store, 6), oom_kills()
    with WorkerPool(context(store), Nodes(store, said.append)) as pool:
        (failure,) = pool.run(pieces, lambda _: None)
    assert failure.piece == pieces[1]
    assert failure.attempts == ATTEMPTS
    assert oom_kills() - before >= 1 + ATTEMPTS
    (line,) = said
    assert line.endswith("out of memory with 2 workers; this node goes on with 1 worker")
    assert store.missing(units(pieces)) == units([pieces[1]])
