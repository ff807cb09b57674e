"""The proof that a process on whatever node reaches the results of this very run.

On a cluster of several machines a local results root is a folder of that name on each of them, unless a network file
system makes it one. A run leaves a token under its root, and whatever works for it elsewhere looks for the token first.
"""

import socket
import time
import uuid
from dataclasses import dataclass

from sweep.errors import StoreError, WorkError
from sweep.storage.files import PATIENCE, TEMPORARY, Files

SIGHT_SECONDS = 10.0
"""How long a token is looked for: a network file system may show a new folder late."""


class RootError(WorkError):
    """A node does not reach the results root, or may not write there."""


@dataclass(frozen=True)
class Token:
    """A file under a run's root that no other root has."""

    root: str
    path: str
    """Relative to the root."""


def leave_token(files: Files) -> Token:
    """Write a token; it goes with the other temporary files once the run gives its lease back."""
    token = Token(files.root, f"{TEMPORARY}/run-{uuid.uuid4().hex}")
    files.create()
    files.write(token.path, socket.gethostname().encode())
    return token


def check_root(token: Token, seconds: float = SIGHT_SECONDS, patience: float = PATIENCE) -> None:
    """Raise RootError, naming this node and the remedy, unless this process sees the token and can write beside it.

    The token is looked for as many `seconds`; a store that refuses is waited for as long as by all other work, for `patience`
    seconds.
    """
    files, node = Files(token.root, patience), f"node {socket.gethostname()}"
    until = time.monotonic() + seconds
    try:
        while not _is_there(files, token):
            if time.monotonic() > until:
                raise RootError(
                    f"{node} does not see {token.root}: use a folder that all nodes mount, or s3://…"
                )
            time.sleep(0.2)
        trial = f"{token.path}.{uuid.uuid4().hex}"
        files.write(trial, b"")
        files.delete(trial)
    except StoreError as error:
        raise RootError(f"{node} cannot use the results root: {error}") from None


def _is_there(files: Files, token: Token) -> bool:
    try:
        files.read(token.path)
    except StoreError:
        raise
    except WorkError:
        return False
    return True
