"""Files that a submitted study takes along, laid once into the results root by their content.

Who submits lays them there; the cluster's head fetches them before the run: python -m sweep.storage.deposit RESULTS LIST
"""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sweep.errors import SweepError, WorkError
from sweep.storage.files import Files

FOLDER = ".inputs"
"""Where they lie under the results root, each under its SHA-256."""
AT_ONCE = 8
"""Files on their way at a time: each waits for the store most of the time."""


def deposit(files: Files, contents: Mapping[str, Path], on_done: Callable[[int], None]) -> dict[str, str]:
    """Store what is not there yet; returns the SHA-256 of each file by the name it is given in `contents`.

    `on_done` is called with numbers of files that are there. Raises StoreError where the store keeps refusing.
    """
    digests = {name: _digest(path.read_bytes()) for name, path in contents.items()}
    there = set(files.names(FOLDER))
    missing = {digest: name for name, digest in digests.items() if digest not in there}
    on_done(len(digests) - len(missing))

    def send(digest: str) -> None:
        content = contents[missing[digest]].read_bytes()
        if _digest(content) != digest:
            raise WorkError(f"{contents[missing[digest]]}: has changed while it was sent; submit again")
        files.write(f"{FOLDER}/{digest}", content)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(send, missing):
            on_done(1)
    return digests


def fetch(files: Files, digests: Mapping[str, str], folder: Path) -> None:
    """Lay deposited files into `folder`, by name. Raises WorkError for one that is missing or is not what was deposited."""
    there = set(files.names(FOLDER))
    if absent := [name for name, digest in digests.items() if digest not in there]:
        raise WorkError(f"{files.root}/{FOLDER}: {absent[0]} is not there; submit the study again")

    def lay(name: str) -> None:
        content = files.read(f"{FOLDER}/{digests[name]}")
        if _digest(content) != digests[name]:
            raise WorkError(
                f"{files.root}/{FOLDER}/{digests[name]}: is not what was submitted; delete it, and submit again"
            )
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lay, digests))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(results: str, listed: str) -> int:
    """Fetch into the working directory what the file `listed` names: a JSON object of SHA-256 by name."""
    try:
        fetch(Files(results), json.loads(Path(listed).read_text(encoding="utf-8")), Path())
    except SweepError as error:
        sys.stderr.write(f"sweep: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
