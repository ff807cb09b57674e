"""Who runs a study: a lease under its results root, renewed while the run lives, and requests to that run.

One run at a time holds `.lease.json`. It renews the heartbeat in it every few seconds; a lease whose heart no
longer beats, or whose process is known to be gone, is taken over by the next run. A run that finds its lease
taken (it was suspended, say) must stop. Should two runs overlap all the same, no harm is done: a unit's file
is complete or absent, and the same key always holds the same rows.

On a local root a lock of the folder makes taking and renewing atomic. Object stores have no lock and PyArrow no
conditional upload: there, and where the lock cannot be had, a run writes its lease, waits, and yields if another's
stands there.
"""

import dataclasses
import fcntl
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from sweep.errors import StoreError, SweepError, WorkError
from sweep.files import Files

LEASE, REQUEST = ".lease.json", ".request.json"
Wish = Literal["stop", "cancel"]
"""What another terminal may ask of a run: to finish what is in flight and end, or to end at once."""


LOCK_SECONDS = 10.0
"""How long the lock of a local root is waited for; it is held for as long as a small file takes to write."""


@dataclass(frozen=True)
class Tempo:
    """How often things happen, in seconds."""

    beat: float
    """Between two heartbeats."""
    stale: float
    """Without a heartbeat until the lease may be taken over."""
    settle: float
    """Between writing a lease where nothing locks and believing in it."""


LOCAL, REMOTE = Tempo(beat=5, stale=30, settle=2), Tempo(beat=15, stale=90, settle=5)


@dataclass(frozen=True)
class Holder:
    """What a lease says about the run that holds it."""

    owner: str
    """Identifies the run."""
    host: str
    pid: int
    place: str
    """Identifies the machine's boot and its process numbers, '' where it cannot."""
    born: str
    """When the process started, in the machine's ticks, '' where it cannot be known."""
    since: float
    """When the run began, seconds since 1970."""
    heartbeat: float
    """When the lease was last renewed, seconds since 1970."""
    stage: str = ""
    """What it is doing."""
    done: int = 0
    total: int = 0
    """Units of that stage that are stored, and all of them."""

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).astimezone()
        return f"process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M}"

    @property
    def here(self) -> bool:
        """Whether the process could be seen from this one."""
        return bool(self.place) and self.place == _place()

    @property
    def dead(self) -> bool:
        """Whether the process is known to be gone; never true of another machine's."""
        return self.here and _born(self.pid) != self.born


@dataclass(frozen=True)
class Request:
    """What another terminal has written for the run that holds the lease."""

    owner: str
    """The run that is meant."""
    wish: Wish


_HOLDER, _REQUEST = TypeAdapter(Holder), TypeAdapter(Request)


class HeldError(SweepError):
    """Another run of the study is alive."""

    def __init__(self, holder: Holder, study: str) -> None:
        super().__init__(
            f"{study} is being run already (by {holder}); follow it with `sweep status {study} --watch`, "
            f"or end it with `sweep stop {study}`"
        )
        self.holder = holder


class Lease:
    """The right to run a study, held inside the `with` block and renewed by a thread of its own.

    `on_wish` is called, in that thread, when another terminal asks the run to stop; `on_loss` when the lease
    was taken over by another run; `on_trouble` when the store has refused a heartbeat, with the reason, and
    with None once it has taken one again.
    """

    def __init__(
        self,
        files: Files,
        study: str,
        on_wish: Callable[[Wish], None],
        on_loss: Callable[[Holder | None], None],
        on_trouble: Callable[[str | None], None],
        tempo: Tempo | None = None,
    ) -> None:
        self._files = Files(
            files.root, patience=2
        )  # a heartbeat that cannot be written is missed, not queued
        self._study = study
        self._on_wish, self._on_loss, self._on_trouble = on_wish, on_loss, on_trouble
        self._tempo = tempo or tempo_of(files)
        now = time.time()
        self._holder = Holder(
            owner=uuid.uuid4().hex,
            host=socket.gethostname(),
            pid=os.getpid(),
            place=_place(),
            born=_born(os.getpid()),
            since=now,
            heartbeat=now,
        )
        self._doing = ("", 0, 0)
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        """Take the lease. Raises HeldError where another run is alive, StoreError where the root refuses."""
        self._files.create()
        try:
            while not self._take():
                time.sleep(self._tempo.settle)
                if (winner := read_holder(self._files)) is None:
                    continue
                if winner.owner != self._holder.owner:
                    raise HeldError(winner, self._study)
                break
        except KeyboardInterrupt:
            self._let_go()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        self._released.set()
        try:
            self._thread.join()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        with suppress(OSError, WorkError):  # a lease that cannot be removed is that of a dead process
            drop(self._files, self._holder)

    def _take(self) -> bool:
        """Write the lease unless another run is alive; returns whether a lock made sure that it is ours."""
        while True:
            holder = read_holder(self._files)
            if holder is not None and is_alive(self._files, holder, self._tempo):
                raise HeldError(holder, self._study)
            with _locked(self._files) as locked:
                if _owner(read_holder(self._files)) == _owner(holder):
                    self._files.delete(REQUEST)
                    self._write()
                    return locked

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say what the run is doing; written with the next heartbeat."""
        self._doing = (stage, done, total)

    def _write(self) -> None:
        stage, done, total = self._doing
        holder = dataclasses.replace(self._holder, heartbeat=time.time(), stage=stage, done=done, total=total)
        self._files.write(LEASE, _HOLDER.dump_json(holder))

    def _renew(self) -> None:
        """Beat until released; between beats, look for requests."""
        tempo, beaten, troubled = self._tempo, time.monotonic(), False
        while not self._released.wait(min(1.0, tempo.beat) if self._files.local else tempo.beat):
            try:
                wish = self._wish()
                if time.monotonic() - beaten >= tempo.beat:
                    with _locked(self._files):
                        current = read_holder(self._files)
                        if _owner(current) != self._holder.owner:
                            self._on_loss(current)
                            return
                        self._write()
                    beaten = time.monotonic()
                    if troubled:
                        self._on_trouble(None)
                        troubled = False
            except (WorkError, OSError) as error:
                self._on_trouble(str(error))
                troubled = True
                continue
            if wish is not None:
                self._on_wish(wish)

    def _wish(self) -> Wish | None:
        """What another terminal has asked of this run, once."""
        with _locked(self._files):
            content = _content(self._files, REQUEST)
            if content is None:
                return None
            self._files.delete(REQUEST)
        try:
            request = _REQUEST.validate_json(content)
        except ValidationError:
            return None
        return request.wish if request.owner == self._holder.owner else None


def tempo_of(files: Files) -> Tempo:
    """How often things happen on this kind of store."""
    return LOCAL if files.local else REMOTE


def read_holder(files: Files) -> Holder | None:
    """Who holds the lease, alive or dead; None where nobody does."""
    content = _content(files, LEASE)
    try:
        return None if content is None else _HOLDER.validate_json(content)
    except ValidationError:
        return None


def is_alive(files: Files, holder: Holder, tempo: Tempo | None = None) -> bool:
    """Whether the run that holds the lease is alive, as far as can be told from here.

    A machine's clock may be wrong, so an old heartbeat from another machine is watched for a while before the
    run counts as dead: this takes up to three beats.
    """
    tempo = tempo or tempo_of(files)
    if holder.dead:
        return False
    if 0 <= time.time() - holder.heartbeat <= tempo.stale:
        return True
    if holder.here:
        return False
    for _ in range(3):
        time.sleep(tempo.beat)
        current = read_holder(files)
        if current is None or current.owner != holder.owner:
            return current is not None
        if current.heartbeat != holder.heartbeat:
            return True
    return False


def ask(files: Files, holder: Holder, wish: Wish) -> None:
    """Ask the run that holds the lease for something; it looks every few seconds."""
    with _locked(files):  # else the run might remove this request for an earlier one that it has just read
        files.write(REQUEST, _REQUEST.dump_json(Request(holder.owner, wish)))


def drop(files: Files, holder: Holder) -> None:
    """Remove the lease of a run that is gone, and what it was writing."""
    with _locked(files):
        if _owner(read_holder(files)) == holder.owner:
            files.clear_temporary()
            files.delete(LEASE)
            files.delete(REQUEST)


def _content(files: Files, path: str) -> bytes | None:
    """What a file directly under the root holds; None where there is none."""
    if path not in files.names(""):
        return None
    try:
        return files.read(path)
    except StoreError:
        raise
    except WorkError:  # gone since it was listed
        return None


def _owner(holder: Holder | None) -> str | None:
    return holder.owner if holder else None


@contextmanager
def _locked(files: Files) -> Iterator[bool]:
    """Lock a local root against other processes; yields whether that was possible."""
    if not files.local:
        yield False
        return
    folder = os.open(files.base, os.O_RDONLY)
    try:
        yield _lock(folder)
    finally:
        os.close(folder)


def _lock(folder: int) -> bool:
    """Whether the folder could be locked: some network file systems cannot, and a suspended process may hold it."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        except OSError:
            return False


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Start time of a process in clock ticks, which tells it from a later one of the same number; '' if gone."""
    try:
        status, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if status == "Z" else fields[18]
