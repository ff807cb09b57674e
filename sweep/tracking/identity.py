"""What identifies a study's results in MLflow: an id stored among them, so that two people's studies share no run."""

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress

from sweep.errors import StoreError, WorkError
from sweep.storage.files import Files

RESULTS_TAG = "sweep.results"
"""Says of a run which results it belongs to."""
FILE = ".tracking.json"
"""Where the id is, beside the tables."""


def results_id(files: Files) -> str:
    """The id of a study's results, written once; results that were moved keep theirs, a copy gets one of its own.

    A copy is told by the address that stands beside the id: there the original still is. Raises StoreError where the
    results cannot be written.
    """
    known, address = _noted(files)
    if known and address == files.root:
        return known
    if not known or _is_there(address, known):
        known = uuid.uuid4().hex
    files.write(FILE, json.dumps({"id": known, "address": files.root}).encode())
    return known


def is_own(tags: Mapping[str, str], own_id: str, beside: bool) -> bool:
    """Whether a run with these tags belongs to the results with this id.

    Runs of before there was an id do where MLflow's database lies `beside` the results.
    """
    return tags.get(RESULTS_TAG, own_id if beside else "") == own_id


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
