"""Whole files under one root, a local folder or an object store: complete or absent, whatever dies meanwhile.

A local write goes to `.tmp` under the root, is flushed to the disk and renamed; an object store shows an object
only once its upload is complete. A store that refuses for a while (unreachable, full, read-only) is waited for.
"""

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as fs

from sweep.errors import InputError, StoreError, WorkError
from sweep.storage.addresses import nearest_folder, place_of, reason_of

TEMPORARY = ".tmp"
"""Folder for what is being written; whatever a dead run left in it may go."""
PATIENCE = 90.0
"""Seconds that a refusing store is waited for."""
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds between tries: doubling from the first to the longest."""

PATH_BYTES = 4096
"""What a path may have in all."""
LONGEST_ROOT = PATH_BYTES - 700
"""Leaves room for a study's name, a table's, a file's, and the folders in which Ray Tune keeps its scratch."""

_FINAL = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What no waiting changes."""
_FINAL_NUMBERS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
"""The same, of errors that have no class of their own."""
_FINAL_AWS = re.compile(
    r"AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH)"
)
_Result = TypeVar("_Result")


class Files:
    """Reads and writes files by their path under `root`."""

    def __init__(self, root: str, patience: float = PATIENCE) -> None:
        """Name a root, which need not exist yet. Raises InputError where the address names no place for files."""
        root = place_of(root)
        self.local = "://" not in root
        self.patience = patience
        if self.local:
            self.root = self.base = _folder(root)
            self._files: fs.FileSystem = fs.LocalFileSystem()
        else:
            self.root = root
            self._files, self.base = _remote(root)

    def write(self, path: str, content: bytes) -> None:
        """Store `content` at `path`, whole or not at all. Raises StoreError where the store keeps refusing."""
        write = self._write_local if self.local else self._upload
        # The folder for temporary files may be cleared while we write; then the write is simply done again.
        self._patiently(lambda: write(f"{self.base}/{path}", content), final=_FINAL[1:])

    def read(self, path: str) -> bytes:
        """Content of the file at `path`. Raises WorkError where there is none, StoreError where none can be had."""

        def read() -> bytes:
            with self._files.open_input_stream(f"{self.base}/{path}") as stream:
                return bytes(stream.readall())

        try:
            return self._patiently(read)
        except FileNotFoundError:
            raise WorkError(f"{self.root}/{path}: no such file; run the study again") from None

    def check_writable(self) -> None:
        """Raise InputError where a folder can be seen to take no files, before anything is computed for it.

        An object store is found out by the first write.
        """
        if not self.local:
            return
        folder = nearest_folder(Path(self.base))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(
                f"--results: {folder} cannot be written to; change its permissions, or name another folder"
            )
        space = os.statvfs(folder)
        # Some file systems count neither blocks nor inodes, and say that they have 0 in all.
        if (space.f_blocks and not space.f_bavail) or (space.f_files and not space.f_favail):
            raise InputError(
                f"--results: the disk of {folder} is full; free some space, or name another folder"
            )

    def create(self) -> None:
        """Make the root where it is a folder. Raises StoreError where that is not possible."""
        if self.local:
            self._patiently(lambda: Path(self.base).mkdir(parents=True, exist_ok=True))

    def names(self, folder: str) -> list[str]:
        """Names of the files in `folder`, sorted; none where it does not exist."""
        selector = fs.FileSelector(f"{self.base}/{folder}", allow_not_found=True)
        found = self._patiently(lambda: self._files.get_file_info(selector))
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def folders_with(self, name: str) -> list[str]:
        """Names of the folders directly under the root that hold a file called `name`, sorted."""
        selector = fs.FileSelector(self.base, allow_not_found=True)
        found = self._patiently(lambda: self._files.get_file_info(selector))
        folders = [info for info in found if info.type == fs.FileType.Directory]
        within = self._patiently(
            lambda: self._files.get_file_info([f"{info.path}/{name}" for info in folders])
        )
        return sorted(
            folder.base_name
            for folder, file in zip(folders, within, strict=True)
            if file.type == fs.FileType.File
        )

    def move(self, source: str, target: str) -> None:
        """Rename a file, replacing what is at `target`. Raises FileNotFoundError where there is no `source`."""

        def move() -> None:
            if self.local:
                Path(self.base, target).parent.mkdir(parents=True, exist_ok=True)
            self._files.move(f"{self.base}/{source}", f"{self.base}/{target}")

        self._patiently(move)

    def delete(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""
        with suppress(FileNotFoundError):
            self._patiently(lambda: self._files.delete_file(f"{self.base}/{path}"))

    def clear_temporary(self) -> None:
        """Remove whatever is in the folder for temporary files; only for the one run that holds the lease."""
        if self.local:
            shutil.rmtree(f"{self.base}/{TEMPORARY}", ignore_errors=True)
        else:
            self._patiently(
                lambda: self._files.delete_dir_contents(f"{self.base}/{TEMPORARY}", missing_dir_ok=True)
            )

    @contextmanager
    def scratch(self, name: str) -> Iterator[str]:
        """Address of a folder that every worker reaches and that is gone after the `with` block."""
        folder = f"{self.base}/{TEMPORARY}/{name}"

        def empty() -> None:
            self._files.create_dir(folder, recursive=True)
            self._files.delete_dir_contents(folder)

        self._patiently(empty)
        try:
            yield f"{self.root}/{TEMPORARY}/{name}"
        finally:
            with suppress(OSError):
                self._files.delete_dir(folder)

    def _write_local(self, target: str, content: bytes) -> None:
        temporary = Path(self.base, TEMPORARY, uuid.uuid4().hex)
        with suppress(
            FileExistsError
        ):  # cleared while it was made; then there is nothing to open, and we try again
            temporary.parent.mkdir(parents=True, exist_ok=True)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _upload(self, target: str, content: bytes) -> None:
        with self._files.open_output_stream(target) as stream:
            stream.write(content)

    def _patiently(self, call: Callable[[], _Result], final: tuple[type[OSError], ...] = _FINAL) -> _Result:
        """Result of `call`, tried again while the store refuses for reasons that may pass."""
        wait, until = FIRST_WAIT, time.monotonic() + self.patience
        while True:
            try:
                return call()
            except OSError as error:
                if isinstance(error, FileNotFoundError) and isinstance(error, final):
                    raise
                hopeless = (
                    isinstance(error, final) or error.errno in _FINAL_NUMBERS or _FINAL_AWS.search(str(error))
                )
                if hopeless or time.monotonic() + wait > until:
                    raise StoreError(f"{self.root}: {_in_words(error)}") from None
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)


def for_fsspec(address: str) -> Any:
    """The object store of `address` as an fsspec file system, for libraries that take no other (DuckDB)."""
    from fsspec.implementations.arrow import ArrowFSWrapper

    protocol = address.partition("://")[0]
    wrapper = type("RemoteFiles", (ArrowFSWrapper,), {"protocol": (protocol,)})
    return wrapper(_remote(address)[0])


def _folder(root: str) -> str:
    """The folder that a local root names, in full. Raises InputError where there can be none."""
    place = f"--results {root}"
    try:
        folder = Path(root).resolve()
        nearest_folder(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead to each other
        raise InputError(f"{place}: {reason_of(error)}; name a folder") from None
    if (length := len(os.fsencode(folder))) > LONGEST_ROOT:
        raise InputError(
            f"{place}: its path has {length:,} bytes, with which the paths of files under it would have more than "
            f"{PATH_BYTES:,}; name a folder with a shorter path"
        )
    return str(folder)


def _remote(address: str) -> tuple[fs.FileSystem, str]:
    """File system and path of an address. Credentials and AWS_ENDPOINT_URL come from the environment."""
    # A file that fits one request is uploaded by one: nothing is left of it if we die meanwhile.
    options = "?allow_delayed_open=true" if address.startswith("s3://") else ""
    try:
        files, path = fs.FileSystem.from_uri(address + options)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"--results {address}: not a usable address: {error}") from None
    return files, path


def _in_words(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space, then run the same command again: it goes on from there"
    lines = str(error).strip().splitlines()
    return f"cannot be read or written: {lines[0] if lines else type(error).__name__}"
