"""Where a result comes from: the code, the environment, the study file and the tables, each by what identifies it."""

import hashlib
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sweep.plan import Plan
from sweep.stages import STAGES
from sweep.storage.store import Store, Unit

PACKAGES = (
    "ray",
    "tensorflow",
    "keras",
    "numpy",
    "pyarrow",
    "duckdb",
    "mlflow",
    "scipy",
    "pydantic",
    "pillow",
    "matplotlib",
)
"""What results or their presentation depend on."""
CONTENT_UNITS = 20_000
"""Tables of more units are identified by their units' names alone: reading them all again would take too long."""


@dataclass(frozen=True)
class TableIdentity:
    """What identifies a table of a study."""

    address: str
    units: int
    rows: int
    sha256: str
    """Of the lines 'NAME DIGEST' of the units in order of their names, where DIGEST is the SHA-256 of a unit's file.

    Where a table has more than CONTENT_UNITS units, of their names alone; those hold the key of all that determines
    the rows.
    """
    covers: str
    """'contents', or 'names'."""


def environment() -> dict[str, str]:
    """Versions of Python, the platform and the packages that results depend on."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_commit() -> str | None:
    """Git commit of this package's code, '+ changes' where files differ from it; None outside a checkout."""
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *arguments], capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout.strip()

    try:
        # An installed package may lie inside the checkout of something else, which says nothing about it.
        git("ls-files", "--error-unmatch", "__init__.py")
        changes = git("status", "--porcelain", "--", ".", "../queries")
        return git("rev-parse", "HEAD") + (" + changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None


def study_sha256(plan: Plan) -> str:
    """SHA-256 of the study file as it was planned."""
    return hashlib.sha256(plan.source).hexdigest()


def table_identities(plan: Plan, store: Store) -> dict[str, TableIdentity]:
    """What identifies each table of a study as far as it is stored, by the table's name."""
    units: dict[str, list[Unit]] = {}
    for stage in STAGES.values():
        planned = stage.units(plan)
        absent = set(store.missing(planned))
        for unit in planned:
            if unit not in absent:
                units.setdefault(unit.table, []).append(unit)
    with ThreadPoolExecutor(8) as readers:

        def digest(unit: Unit) -> str:
            return hashlib.sha256(store.read_file(unit.path)).hexdigest()

        identities = {}
        for table, own in units.items():
            own.sort(key=lambda unit: unit.path)
            covered = len(own) <= CONTENT_UNITS
            digests = readers.map(digest, own) if covered else [""] * len(own)
            lines = [
                f"{unit.path.split('/')[1]} {found}".rstrip()
                for unit, found in zip(own, digests, strict=True)
            ]
            identities[table] = TableIdentity(
                address=f"{store.root}/{table}",
                units=len(own),
                rows=sum(unit.rows for unit in own),
                sha256=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
                covers="contents" if covered else "names",
            )
    return identities
