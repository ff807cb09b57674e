"""The journal of the collector: a file of lines on a local disk, to which one process appends.

A line is on the disk before `append` returns. Where it does not fit, what was written of it is cut off again.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sweep.errors import InputError
from sweep.human.journal import (
    BadLine,
    FinishLine,
    Header,
    ResponseLine,
    SessionLine,
    parsed,
)

Entry = SessionLine | ResponseLine | FinishLine
"""A line after the header."""


class JournalFile:
    """An open journal that no other process can open meanwhile."""

    def __init__(self, path: Path, experiment_id: str | None = None) -> None:
        """Open the journal at `path`. With an `experiment_id` it is made where there is none, and must be of that experiment.

        Raises InputError where it is of another experiment, is in use, or holds a line that is none.
        """
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if experiment_id else 0)
        if experiment_id:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, flags, 0o600)
        try:
            self._lock()
            self._size = _cut_torn_line(self._file)
            if self._size == 0 and experiment_id:
                header = Header(kind="experiment", experiment_id=experiment_id, version=1)
                self._write(f"{header.model_dump_json()}\n".encode())
                _sync_folder(path)
            self.header, self.entries = read_journal(path)
            if experiment_id and self.header.experiment_id != experiment_id:
                raise InputError(
                    f"{path}: is of experiment {self.header.experiment_id}, and the page is of {experiment_id}; "
                    "name another file with --journal"
                )
        except BaseException:
            os.close(self._file)
            raise

    def append(self, entries: Sequence[Entry]) -> None:
        """Store lines: all of them or none. Raises OSError where the disk takes no more."""
        self._write(b"".join(f"{entry.model_dump_json(exclude_none=True)}\n".encode() for entry in entries))

    def forget(self, session_id: str) -> int:
        """Remove every line of a session for good; returns how many there were."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if getattr(parsed(line), "session_id", None) != session_id]
        temporary = self.path.with_name(f"{self.path.name}.forget")
        try:
            with temporary.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.writelines(kept)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(self.path)
        return len(lines) - len(kept)

    def close(self) -> None:
        """Let another process have the journal."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{self.path}: a collector has this journal; stop it first (Ctrl-C). Pages wait and lose nothing"
            ) from None

    def _write(self, content: bytes) -> None:
        """Append to the file and wait for the disk. What a failure left behind is cut off now, or else before the next write."""
        os.ftruncate(self._file, self._size)
        try:
            view = memoryview(content)
            done = 0
            while done < len(content):
                done += os.pwrite(self._file, view[done:], self._size + done)
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(content)


def read_journal(path: Path) -> tuple[Header, list[Entry]]:
    """Header and lines of a journal, which a collector may have open. A line that is being written is left out.

    Raises InputError where a line is none of a journal.
    """
    lines = _whole_lines(path)
    first = next(lines, None)
    if not isinstance(first, Header):
        raise InputError(f"{path}: is no journal; its first line must name the experiment")
    entries: list[Entry] = []
    sessions: set[str] = set()
    for number, line in enumerate(lines, start=2):
        if isinstance(line, Header):
            raise InputError(f"{path}: line {number}: a second header; a journal has one")
        if isinstance(line, SessionLine):
            sessions.add(line.session_id)
        elif line.session_id not in sessions:
            raise InputError(
                f"{path}: line {number}: is of a session that has not begun; restore the file from a copy"
            )
        entries.append(line)
    return first, entries


def _whole_lines(path: Path) -> Iterator[Header | Entry]:
    content = path.read_bytes()
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            yield parsed(line)
        except BadLine as problem:
            raise InputError(f"{path}: line {number}: {problem}; restore the file from a copy") from None


def _cut_torn_line(file: int) -> int:
    """Cut what a power cut left of a last line, which nobody was told is stored; returns the size."""
    size = os.fstat(file).st_size
    whole = os.pread(file, size, 0).rfind(b"\n") + 1
    if whole < size:
        os.ftruncate(file, whole)
        os.fsync(file)
    return whole


def _sync_folder(path: Path) -> None:
    """Wait until the disk knows the name of a file, not only its content."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
