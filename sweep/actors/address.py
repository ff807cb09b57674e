"""Which Ray cluster a run joins, checked before any work, and where Ray keeps its files on this machine."""

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweep.errors import InputError

SOCKET_BYTES = 107
"""Length that Linux allows for a socket's path."""
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path of a socket under the folder for Ray's files; a process number has seven digits at most."""
ANSWER_SECONDS = 5.0
"""How long a cluster may take to accept a connection; Ray itself would try for minutes."""
_HOST_AND_PORT = re.compile(r"(?P<host>[^\s:/@]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")


def check_address(given: str | None) -> None:
    """Raise InputError where a run could neither join a cluster nor start its own Ray, as far as can be told before."""
    if cluster_address(given) is None:
        with folder_for_ray():
            pass


def cluster_address(given: str | None) -> str | None:
    """HOST:PORT of the cluster to join, from `given` or RAY_ADDRESS; None where a run starts its own Ray.

    Raises InputError where the address is of another kind, or where nothing answers.
    """
    address = given or os.environ.get("RAY_ADDRESS") or "local"
    place = f"--address {given}" if given else f"RAY_ADDRESS={address}"
    if address == "local":
        return None
    if address == "auto":
        address, place = _started_here(place)
    if address.startswith(("http://", "https://")):
        raise InputError(
            f"{place}: is the address of Ray's dashboard and jobs; use `sweep submit`, or name the cluster's own, HOST:6379 as a rule"
            f"{'' if given else ', or unset RAY_ADDRESS to run on this machine alone'}"
        )
    if address.startswith("ray://"):
        raise InputError(
            f"{place}: Ray Client is not supported; run sweep on a node of the cluster, with --address auto"
        )
    found = _HOST_AND_PORT.fullmatch(address)
    if not found or not 0 < int(found["port"]) < 65536:
        raise InputError(
            f"{place}: write it as HOST:PORT, with 6379 as the port as a rule; or auto, or local"
        )
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), ANSWER_SECONDS).close()
    except (OSError, UnicodeError) as error:  # the latter of hosts that cannot be named so
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{place}: no Ray cluster answers at {address} ({why}); start one with `ray start --head`, or correct the address"
        ) from None
    return address


def _started_here(place: str) -> tuple[str, str]:
    """Address of the cluster that `ray start` has started on this machine.

    Ray itself would otherwise look through all processes, and join the Ray that another run has for itself.
    """
    noted = folder_of_ray() / "ray_current_cluster"
    try:
        address = noted.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"{place}: no cluster was started on this machine by `ray start` ({noted} cannot be read); "
            "name its address as HOST:PORT"
        ) from None
    return address, f"{place} ({noted})"


@contextmanager
def folder_for_ray() -> Iterator[None]:
    """Let a Ray that starts on this machine keep its files where they fit.

    In RAY_TMPDIR where that is set, otherwise in TMPDIR or /tmp, otherwise in a folder of its own that goes at the end.
    Raises InputError where there is none.
    """
    before = os.environ.get("RAY_TMPDIR")
    if before:
        if problem := _problem(Path(before)):
            raise InputError(f"RAY_TMPDIR={before}: {problem}; name another folder")
        yield
        return
    bases = [_base(), Path("/tmp")]
    usable = next((base for base in bases if not _problem(base)), None)
    own = None
    if usable is None:
        own = _own_folder(bases)
        usable = Path(own.name)
    os.environ["RAY_TMPDIR"] = str(usable)
    try:
        yield
    finally:
        del os.environ["RAY_TMPDIR"]
        if own is not None:
            own.cleanup()


def _own_folder(bases: list[Path]) -> "tempfile.TemporaryDirectory[str]":
    """A folder beside those of others, which Ray's last processes may still be writing to when it goes."""
    for base in bases:
        try:
            folder = tempfile.TemporaryDirectory(prefix="ray-", dir=base, ignore_cleanup_errors=True)
        except OSError:
            continue
        if not _problem(Path(folder.name)):
            return folder
        folder.cleanup()
    raise InputError(
        f"Ray has no place for its files: {bases[0]}: {_problem(bases[0])}; name a folder of a short path in RAY_TMPDIR"
    )


def folder_of_ray() -> Path:
    """The folder for Ray's files, as things stand."""
    return _base() / "ray"


def _base() -> Path:
    """The folder in which Ray has a folder for its files."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")


def _problem(base: Path) -> str | None:
    """Why Ray cannot keep its files in `base`, or None."""
    length = len(os.fsencode(base / _SOCKET))
    if length > SOCKET_BYTES:
        return f"Ray's sockets there would have paths of {length} bytes, more than the {SOCKET_BYTES} that are allowed"
    folder = base / "ray"
    if not os.path.lexists(folder):
        folder = base
    if not folder.is_dir():
        return f"{folder} is no folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"{folder} cannot be written to"


def is_joined(address: str | None) -> bool:
    """Whether a run joins a cluster that is there, rather than starting Ray on this machine for itself."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") != "local"
