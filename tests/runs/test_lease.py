"""The lease: one run at a time, taken over from the dead and never from the living, and requests to its holder."""

import dataclasses
import fcntl
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import InputError, StoreError
from sweep.runs.holder import LEASE, Holder, Tempo, is_alive, read_holder
from sweep.runs.lease import REQUEST, HeldError, Lease, ask, drop
from sweep.storage.files import Files

FAST = Tempo(beat=0.2, stale=30, settle=3)


def lease(files: Files, events: "queue.Queue[Any] | None" = None, tempo: Tempo = FAST) -> Lease:
    noted: queue.Queue[Any] = events if events is not None else queue.Queue()
    return Lease(files, "study.yaml", noted.put, noted.put, noted.put, tempo)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(str(tmp_path / "root"))


@pytest.fixture
def unlocked(files: Files, monkeypatch: pytest.MonkeyPatch) -> Files:
    """The same files where nothing locks, as on an object store."""

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("sweep.runs.lease.fcntl.flock", refuse)
    return files


def holder_of(files: Files) -> Holder:
    holder = read_holder(files)
    assert holder is not None
    return holder


def write_lease(files: Files, **changes: Any) -> Holder:
    """Leave the lease that a run had, with some of its fields changed."""
    with lease(files):
        holder = dataclasses.replace(holder_of(files), **changes)
    files.write(LEASE, json.dumps(dataclasses.asdict(holder)).encode())
    return holder


def test_a_second_run_is_refused_and_told_what_to_do(files: Files) -> None:
    with lease(files):
        with pytest.raises(HeldError) as refused, lease(files):
            pass
        expected = f"study.yaml is being run already (by process {os.getpid()} on "
        assert str(refused.value).startswith(expected)
        assert "`sweep status study.yaml --watch`" in str(refused.value)
        assert "`sweep stop study.yaml`" in str(refused.value)
    assert files.names("") == []
    assert list(Path(files.base).iterdir()) == []
    with lease(files):
        pass


def test_the_lease_is_renewed_and_tells_the_progress(files: Files) -> None:
    with lease(files) as held:
        first = holder_of(files)
        held.progress("masking", 3, 8)
        deadline = time.monotonic() + 60
        while holder_of(files).done == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        now = holder_of(files)
        assert (now.stage, now.done, now.total) == ("masking", 3, 8)
        assert now.heartbeat > first.heartbeat
        assert now.owner == first.owner
        while holder_of(files).heartbeat < now.heartbeat + 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert is_alive(files, holder_of(files), FAST)


def test_of_many_at_once_one_wins(files: Files) -> None:
    files.create()
    won, begin, lost = [], threading.Barrier(8), threading.Semaphore(0)

    def run() -> None:
        begin.wait()
        try:
            with lease(files):
                won.append([lost.acquire(timeout=60) for _ in range(7)])
        except HeldError:
            lost.release()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [[True] * 7]


def test_without_a_lock_the_last_writer_wins_and_the_others_yield(unlocked: Files) -> None:
    test_of_many_at_once_one_wins(unlocked)


def test_a_lease_that_is_gone_while_it_settles_is_taken_again(unlocked: Files) -> None:
    unlocked.create()
    removed = threading.Event()

    def remove() -> None:
        while LEASE not in unlocked.names(""):
            time.sleep(0.05)
        unlocked.delete(LEASE)
        removed.set()

    threading.Thread(target=remove).start()
    with lease(unlocked):
        assert removed.is_set()
        assert holder_of(unlocked).pid == os.getpid()


def test_a_lock_that_a_suspended_process_holds_is_not_waited_for_for_ever(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.runs.lease.LOCK_SECONDS", 0.2)
    files.create()
    folder = os.open(files.base, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with lease(files), pytest.raises(HeldError), lease(files):
            pass
        assert read_holder(files) is None
    finally:
        os.close(folder)


@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({}, True),
        ({"pid": 2**22 + 1}, False),
        ({"born": "1"}, False),
        ({"heartbeat": 0.0}, False),
        ({"place": "another machine", "pid": 2**22 + 1}, True),
        ({"place": "another machine", "heartbeat": 0.0}, False),
        ({"place": "another machine", "heartbeat": 1e11}, False),
        ({"place": ""}, True),
    ],
)
def test_who_is_alive(files: Files, changes: dict[str, Any], alive: bool) -> None:
    assert is_alive(files, write_lease(files, **changes), FAST) == alive


def test_the_dead_lose_their_lease_and_the_living_keep_it(files: Files) -> None:
    write_lease(files, pid=2**22 + 1)
    with lease(files):
        assert holder_of(files).pid == os.getpid()
    write_lease(files, place="another machine")
    with pytest.raises(HeldError), lease(files):
        pass


@pytest.mark.parametrize("changes", [{"place": "another machine", "heartbeat": 1.0}, {"heartbeat": 1e11}])
def test_a_wrong_clock_does_not_make_the_living_dead(files: Files, changes: dict[str, Any]) -> None:
    """One on another machine that is behind, and one on this machine that was set back while a run went on."""
    holder = write_lease(files, **changes)

    refused = threading.Event()

    def beat() -> None:
        later = holder
        while not refused.wait(0.1):
            later = dataclasses.replace(later, heartbeat=later.heartbeat + 1)
            files.write(LEASE, json.dumps(dataclasses.asdict(later)).encode())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(HeldError), lease(files, tempo=Tempo(beat=1, stale=30, settle=3)):
            pass
    finally:
        refused.set()
        thread.join()


CHILD = """
import sys, time
from sweep.storage.files import Files
from sweep.runs.holder import Tempo
from sweep.runs.lease import Lease
def lost(holder):
    print("lost to", holder.pid, flush=True)
with Lease(Files(sys.argv[1]), "s", print, lost, print, Tempo(0.2, 30, 0.3)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def child(files: Files) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    with ExitStack() as stack:

        def start() -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, "-c", CHILD, files.root], stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            return process

        yield start


def test_a_killed_run_is_replaced_at_once(files: Files, child: Callable[[], "subprocess.Popen[str]"]) -> None:
    process = child()
    assert holder_of(files).pid == process.pid
    with pytest.raises(HeldError), lease(files):
        pass
    process.kill()
    begun = time.monotonic()
    while holder_of(files).pid == process.pid and not holder_of(files).dead:
        assert time.monotonic() < begun + 5
    with lease(files):
        assert holder_of(files).pid == os.getpid()


def test_a_suspended_run_loses_its_lease_and_notices(
    files: Files, child: Callable[[], "subprocess.Popen[str]"]
) -> None:
    process = child()
    process.send_signal(signal.SIGSTOP)
    hasty = Tempo(beat=0.2, stale=1.2, settle=3)
    time.sleep(1.5 * hasty.stale)
    with lease(files, tempo=hasty):
        process.send_signal(signal.SIGCONT)
        assert process.stdout is not None
        assert process.stdout.readline() == f"lost to {os.getpid()}\n"
        assert holder_of(files).pid == os.getpid()


def test_requests_reach_the_run_they_are_meant_for(files: Files) -> None:
    events: queue.Queue[Any] = queue.Queue()
    stranger = write_lease(files, pid=2**22 + 1)
    ask(files, stranger, "cancel")
    with lease(files, events):
        assert REQUEST not in files.names("")
        ask(files, stranger, "cancel")
        ask(files, holder_of(files), "stop")
        assert events.get(timeout=10) == "stop"
        ask(files, holder_of(files), "cancel")
        assert events.get(timeout=10) == "cancel"
        assert events.empty()


def test_a_store_that_refuses_heartbeats_is_reported_and_so_is_its_return(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: queue.Queue[Any] = queue.Queue()
    with lease(files, events):
        with monkeypatch.context() as patch:

            def refuse(_: int) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr("sweep.storage.files.os.fsync", refuse)
            assert "the disk is full" in events.get(timeout=10)
        recovered = events.get(timeout=10)
        while recovered is not None:
            recovered = events.get(timeout=10)


def test_a_request_reaches_a_run_whose_heartbeats_are_refused(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: queue.Queue[Any] = queue.Queue()

    def refuse(*_: object) -> None:
        raise StoreError("refused")

    with lease(files, events):
        monkeypatch.setattr("sweep.runs.lease.write_holder", refuse)
        assert events.get(timeout=10) == "refused"
        ask(files, holder_of(files), "stop")
        heard = [events.get(timeout=10)]
        while heard[-1] == "refused":
            heard.append(events.get(timeout=10))
        assert heard[-1] == "stop"


def test_a_request_that_cannot_be_removed_is_passed_on_once(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: queue.Queue[Any] = queue.Queue()
    with lease(files, events) as held:
        with monkeypatch.context() as patch:

            def refuse(path: str) -> None:
                raise StoreError("refused")

            patch.setattr(held._files, "delete", refuse)
            for action in ("stop", "cancel"):
                ask(files, holder_of(files), action)
                heard = [events.get(timeout=10) for _ in range(4)]
                assert heard[heard.index(action) :] == [action, *["refused"] * (3 - heard.index(action))]
        ask(files, holder_of(files), "cancel")
        while (event := events.get(timeout=10)) != "cancel":
            assert event in ("refused", None)


def test_no_error_silences_the_heart(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that nobody thought of, nor one in telling of it, as to a terminal that is gone."""
    told = threading.Event()

    def tell(reason: str | None) -> None:
        told.set()
        raise OSError(5, "Input/output error")

    with Lease(files, "study.yaml", print, print, tell, FAST):
        with monkeypatch.context() as patch:

            def fail(*_: object) -> None:
                raise ValueError("unforeseen")

            patch.setattr("sweep.runs.lease.read_holder", fail)
            assert told.wait(10)
        before, until = holder_of(files).heartbeat, time.monotonic() + 10
        while holder_of(files).heartbeat == before:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_root_that_cannot_be_made_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="is a file, not a folder"),
        lease(Files(str(tmp_path / "file/root"))),
    ):
        pass


def test_a_dead_lease_can_be_dropped_but_no_other(files: Files) -> None:
    dead = write_lease(files, pid=2**22 + 1)
    other = write_lease(files)
    drop(files, dead)
    assert holder_of(files).owner == other.owner
    drop(files, other)
    assert read_holder(files) is None
    files.write(LEASE, b"{half")
    assert read_holder(files) is None
