"""The right to run a study: a lease under its results root, renewed while the run lives, and requests to that run.

One run at a time holds `.lease.json`. It renews the heartbeat in it every few seconds; a lease that is no
longer renewed, or whose process is known to be gone, is taken over by the next run. A run that finds its lease
taken (it was suspended, say) must stop. Should two runs overlap all the same, no harm is done: a unit's file
is complete or absent, and the same key always holds the same rows.

On a local root a lock of the folder makes taking and renewing atomic. Object stores have no lock and PyArrow no
conditional upload: there, and where the lock cannot be had, a run writes its lease, waits, and yields if another's
stands there.
"""

import dataclasses
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from sweep.errors import SweepError, WorkError
from sweep.runs.holder import (
    LEASE,
    Holder,
    Tempo,
    content_of,
    is_alive,
    owner_of,
    read_holder,
    tempo_of,
    write_holder,
)
from sweep.storage.files import Files

REQUEST = ".request.json"
Action = Literal["stop", "cancel"]
"""What another terminal may ask of a run: to finish what is in flight and end, or to end at once."""
LOCK_SECONDS = 10.0
"""How long the lock of a local root is waited for; it is held for as long as a small file takes to write."""


@dataclass(frozen=True)
class Request:
    """What another terminal has written for the run that holds the lease."""

    owner: str
    """The run that is meant."""
    action: Action
    number: str = ""
    """Tells it from an equal request before it."""


_REQUEST = TypeAdapter(Request)


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

    `on_action` is called, in that thread, when another terminal asks the run to stop; `on_loss` when the lease
    was taken over by another run; `on_trouble` when the store has refused a heartbeat, with the reason, and
    with None once it has taken one again.
    """

    def __init__(
        self,
        files: Files,
        study: str,
        on_action: Callable[[Action], None],
        on_loss: Callable[[Holder | None], None],
        on_trouble: Callable[[str | None], None],
        tempo: Tempo | None = None,
    ) -> None:
        self._files = Files(
            files.root, patience=2
        )  # a heartbeat that cannot be written is missed, not queued
        self._study = study
        self._on_action, self._on_loss, self._on_trouble = on_action, on_loss, on_trouble
        self._tempo = tempo or tempo_of(files)
        self._holder = Holder.of_this_process()
        self._doing = ("", 0, 0)
        self._heard: Request | None = None
        """The last request that was passed on; it may not have been possible to remove it."""
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
                if owner_of(read_holder(self._files)) == owner_of(holder):
                    self._files.delete(REQUEST)
                    self._write()
                    return locked

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say what the run is doing; written with the next heartbeat."""
        self._doing = (stage, done, total)

    def _write(self) -> None:
        stage, done, total = self._doing
        holder = dataclasses.replace(self._holder, heartbeat=time.time(), stage=stage, done=done, total=total)
        write_holder(self._files, holder)

    def _renew(self) -> None:
        """Beat until released; between beats, look for requests. No error ends this: the run would seem dead."""
        tempo, beaten, troubled = self._tempo, time.monotonic(), False
        while not self._released.wait(min(1.0, tempo.beat) if self._files.local else tempo.beat):
            try:
                self._look_for_request()
                if time.monotonic() - beaten < tempo.beat:
                    continue
                with _locked(self._files):
                    current = read_holder(self._files)
                    if owner_of(current) != self._holder.owner:
                        self._on_loss(current)
                        return
                    self._write()
                beaten = time.monotonic()
                if troubled:
                    troubled = False
                    self._on_trouble(None)
            except Exception as error:
                troubled = True
                with suppress(Exception):
                    self._on_trouble(str(error) or type(error).__name__)

    def _look_for_request(self) -> None:
        """Pass on what another terminal has asked of this run, once, before anything can go wrong with it."""
        with _locked(self._files):
            content = content_of(self._files, REQUEST)
            if content is None:
                return
            try:
                request = _REQUEST.validate_json(content)
            except ValidationError:
                request = None
            if request is not None and request.owner == self._holder.owner and request != self._heard:
                self._heard = request
                self._on_action(request.action)
            self._files.delete(REQUEST)


def ask(files: Files, holder: Holder, action: Action) -> None:
    """Ask the run that holds the lease for something; it looks every few seconds."""
    with _locked(files):  # else the run might remove this request for an earlier one that it has just read
        files.write(REQUEST, _REQUEST.dump_json(Request(holder.owner, action, uuid.uuid4().hex)))


def drop(files: Files, holder: Holder) -> None:
    """Remove the lease of a run that is gone, and what it was writing."""
    with _locked(files):
        if owner_of(read_holder(files)) == holder.owner:
            files.clear_temporary()
            files.delete(LEASE)
            files.delete(REQUEST)


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
