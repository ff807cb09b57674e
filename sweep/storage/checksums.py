"""Checksums of the files that cannot carry their own: the study file, the figures and the report."""

import hashlib
import json
from collections.abc import Iterator, Mapping

from sweep.errors import StoreError, WorkError
from sweep.storage.sealing import BrokenSeal
from sweep.storage.store import Store

CHECKSUMS = ".checksums.json"
STUDY = "study.yaml"
"""The study file, among its results."""


def write_files(store: Store, files: Mapping[str, bytes]) -> None:
    """Store `files`, by their paths, and note their checksums.

    While they are being written none is noted, so whatever dies meanwhile leaves no wrong one.
    """
    try:
        noted = _noted(store)
    except BrokenSeal:
        noted = {}
    others = {path: digest for path, digest in noted.items() if path not in files}
    if others != noted:
        _note(store, others)
    _note(store, others | {path: store.write_file(path, content) for path, content in files.items()})


def damaged_files(store: Store) -> Iterator[tuple[str, str]]:
    """Paths of noted files that are damaged or gone, each with what is wrong; the notes themselves are among them."""
    try:
        noted = _noted(store)
    except BrokenSeal as problem:
        yield CHECKSUMS, str(problem)
        return
    for path, digest in noted.items():
        try:
            if hashlib.sha256(store.read_file(path)).hexdigest() != digest:
                yield path, "does not match its checksum"
        except StoreError:
            raise
        except WorkError:
            yield path, "is gone"


def _noted(store: Store) -> dict[str, str]:
    """Checksums by path; none where none were noted yet. Raises BrokenSeal where the notes are damaged."""
    if CHECKSUMS not in store.files.names(""):
        return {}
    files: dict[str, str] = json.loads(store.read_json(CHECKSUMS))["files"]
    return files


def _note(store: Store, digests: Mapping[str, str]) -> None:
    fields = {"files": dict(sorted(digests.items()))}
    store.write_json(CHECKSUMS, json.dumps(fields, indent=1).encode())
