"""Files fetched by address once, kept in a cache, and checked against the hash that the first fetch recorded."""

import hashlib
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from sweep.errors import InputError

TIMEOUT_SECONDS = 60


def cache_folder() -> Path:
    """`SWEEP_CACHE`, or a folder under the user's home. Raises InputError where there is no home."""
    if given := os.environ.get("SWEEP_CACHE"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "relevance-sweep"
    except RuntimeError:  # a user without an entry in the system's list, and without HOME
        raise InputError("no home folder is known; name a folder for fetched files in SWEEP_CACHE") from None


def fetched(address: str, place: str) -> Path:
    """Local copy of the file at an http(s) `address`.

    Raises InputError, opening with `place`, where it cannot be fetched or the copy is not what was fetched first.
    """
    name = Path(urlsplit(address).path).name or "weights"
    folder = cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:12]
    path, record = folder / name, folder / f"{name}.sha256"
    try:
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _fetch(address, path, place)
        digest = _digest(path)
        if not record.is_file():
            record.write_text(f"{digest}\n")
    except OSError as error:
        raise InputError(
            f"{place}: fetched files cannot be kept: {error}; name a folder that can be written to in SWEEP_CACHE"
        ) from None
    if record.read_text().strip() != digest:
        raise InputError(
            f"{place}: {path} has SHA-256 {digest}, but {record.name} says {record.read_text().strip()}; "
            f"delete {path} to fetch it again, or both to accept another version"
        )
    return path


def _fetch(address: str, path: Path, place: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response,  # noqa: S310 - http(s) only, see open_weights
        ):
            shutil.copyfileobj(response, file)
        Path(temporary).replace(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{place}: cannot fetch {address}: {error}; fetch it yourself and name its path"
        ) from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
