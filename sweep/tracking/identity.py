"""What identifies a study's results in MLflow: an id stored among them, so that two people's studies share no run."""

import json
import uuid
from contextlib import suppress

from sweep.errors import StoreError, WorkError
from sweep.storage.files import Files

FILE = ".tracking.json"
"""Where the id is, beside the tables."""


def results_id(files: Files) -> str:
    """The id of a study's results, written once; results that were moved keep theirs, a copy gets one of its own.

    A copy is told by the address that stands beside the id: there the original still is. Raises StoreError where the
    results cannot be written.
    """
    known, address = _noted(files)
    if known and (address == files.root or not _is_there(address, known)):
        return known
    fresh = uuid.uuid4().hex
    files.write(FILE, json.dumps({"id": fresh, "address": files.root}).encode())
    return fresh


def _noted(files: Files) -> tuple[str, str]:
    with suppress(ValueError, KeyError, TypeError):
        if FILE in files.names(""):
            content = json.loads(files.read(FILE))
            return str(content["id"]), str(content["address"])
    return "", ""


def _is_there(address: str, known: str) -> bool:
    """Whether the results at another address have the same id."""
    with suppress(StoreError, WorkError, ValueError):
        return _noted(Files(address, patience=2))[0] == known
    return False
