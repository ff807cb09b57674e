"""Who runs a study, as its lease says, and whether that run is alive as far as can be told from here."""

import os
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sweep.errors import StoreError, WorkError
from sweep.storage.files import Files

LEASE = ".lease.json"


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

    @staticmethod
    def of_this_process() -> "Holder":
        """A run that begins now, in this process."""
        now, pid = time.time(), os.getpid()
        return Holder(uuid.uuid4().hex, socket.gethostname(), pid, _place(), _born(pid), now, now)

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


_HOLDER = TypeAdapter(Holder)


def tempo_of(files: Files) -> Tempo:
    """How often things happen on this kind of store."""
    return LOCAL if files.local else REMOTE


def read_holder(files: Files) -> Holder | None:
    """Who holds the lease, alive or dead; None where nobody does."""
    content = content_of(files, LEASE)
    try:
        return None if content is None else _HOLDER.validate_json(content)
    except ValidationError:
        return None


def write_holder(files: Files, holder: Holder) -> None:
    """Write a lease. Raises StoreError where the root refuses."""
    files.write(LEASE, _HOLDER.dump_json(holder))


def is_alive(files: Files, holder: Holder, tempo: Tempo | None = None) -> bool:
    """Whether the run that holds the lease is alive, as far as can be told from here.

    A clock may be wrong, or be set while a run goes on, so a heartbeat that looks old, or lies ahead, is watched for a
    while before the run counts as dead: this takes up to three beats.
    """
    tempo = tempo or tempo_of(files)
    if holder.dead:
        return False
    if 0 <= time.time() - holder.heartbeat <= tempo.stale:
        return True
    for _ in range(3):
        time.sleep(tempo.beat)
        current = read_holder(files)
        if current is None or current.owner != holder.owner:
            return current is not None
        if current.heartbeat != holder.heartbeat:
            return True
    return False


def content_of(files: Files, path: str) -> bytes | None:
    """What a file directly under the root holds; None where there is none."""
    if path not in files.names(""):
        return None
    try:
        return files.read(path)
    except StoreError:
        raise
    except WorkError:  # gone since it was listed
        return None


def owner_of(holder: Holder | None) -> str | None:
    """Identifies a run, or that there is none."""
    return holder.owner if holder else None


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
