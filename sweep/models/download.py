"""Files fetched by address once, kept in a cache, and checked against the hash that the first fetch recorded.

A file gets its name only when it is whole: of the length that the server announced, of the content that its reader
expects, and of the recorded hash. The record is written first, so that of two processes that fetch at once and are
sent different versions, one fails. What a fetch that fails has written is removed; what one that was killed has
written is removed by the next use of the cache, once it is a day old.
"""

import hashlib
import http.client
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from sweep.errors import InputError

TIMEOUT_SECONDS = 60
"""How long a server may say nothing."""
BLOCK_BYTES = 2**20
PART = ".part-"
"""How the names of files begin that are being fetched."""
OLD_SECONDS = 24 * 3600
"""A part that has not grown for so long is one that a killed process has left."""


def cache_folder() -> Path:
    """`SWEEP_CACHE`, or a folder under the user's home. Raises InputError where there is no home."""
    if given := os.environ.get("SWEEP_CACHE"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "relevance-sweep"
    except RuntimeError:  # a user without an entry in the system's list, and without HOME
        raise InputError("no home folder is known; name a folder for fetched files in SWEEP_CACHE") from None


def fetched(address: str, place: str, check: Callable[[Path], None]) -> Path:
    """Local copy of the file at an http(s) `address`; `check` raises ValueError where a file is not what it should be.

    Raises InputError, opening with `place`, where it cannot be fetched or the copy is not what was fetched first.
    """
    folder = cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:12]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{place}: fetched files cannot be kept: {error}; name a folder that can be written to in SWEEP_CACHE"
        ) from None
    try:
        _sweep_parts(folder.parent)
        name = Path(urlsplit(address).path).name.strip(".") or "weights"
        path, record = folder / name, folder / f"{name}.sha256"
        if not path.is_file():
            _fetch(address, path, record, check)
        elif not record.is_file():
            check(path)
            _write_record(record, _digest(path))
        digest, recorded = _digest(path), record.read_text(encoding="utf-8").strip()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(
            f"{place}: cannot fetch {address}: {_reason(error)}; fetch it yourself and name its path"
        ) from None
    if recorded != digest:
        raise InputError(
            f"{place}: {path} has SHA-256 {digest}, but {record.name} says {recorded}; "
            f"delete {path} to fetch it again, or both to accept another version"
        )
    return path


def _fetch(address: str, path: Path, record: Path, check: Callable[[Path], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=PART, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _receive(address, file)
        check(temporary)
        digest = _digest(temporary)
        if (recorded := _write_record(record, digest)) != digest:
            raise ValueError(
                f"it has SHA-256 {digest}, but what was fetched first had {recorded} (delete {record} to accept it)"
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sweep_parts(cache: Path) -> None:
    """Remove what fetches that were killed have left of any address."""
    for part in cache.glob(f"*/{PART}*"):
        with suppress(OSError):  # gone meanwhile, or another user's: it harms nothing
            if time.time() - part.stat().st_mtime > OLD_SECONDS:
                part.unlink()


def _receive(address: str, file: IO[bytes]) -> None:
    with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - http(s) only, see open_weights
        if not response.url.startswith(("https:",) if address.startswith("https:") else ("http:", "https:")):
            raise ValueError(f"it redirects to {response.url}, which is not as safe")
        announced, received = response.headers.get("Content-Length"), 0
        while block := response.read(BLOCK_BYTES):
            file.write(block)
            received += len(block)
    if announced is not None and received != int(announced):
        raise ValueError(f"the connection broke after {received:,} of {int(announced):,} bytes")
    file.flush()
    os.fsync(file.fileno())


def _write_record(record: Path, digest: str) -> str:
    """Write the record if there is none. Returns what stands in it."""
    with tempfile.NamedTemporaryFile("w", prefix=PART, dir=record.parent, encoding="utf-8") as file:
        file.write(f"{digest}\n")
        file.flush()
        try:
            os.link(file.name, record)  # unlike a rename, never replaces what another process has written
        except FileExistsError:
            return record.read_text(encoding="utf-8").strip()
    return digest


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke before the end"
    return str(error) or type(error).__name__


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
