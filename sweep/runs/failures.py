"""What failed in a study, kept under the results root until it is stored after all."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from sweep.errors import WorkError
from sweep.storage.sealing import BrokenSeal
from sweep.storage.store import Store, Unit

FOLDER = "failures"


@dataclass(frozen=True)
class FailedWork:
    """A piece of work that failed as often as it may be tried."""

    stage: str
    units: tuple[str, ...]
    """Paths of the units that it should have written."""
    reason: str
    when: str
    """ISO 8601, UTC."""

    def __str__(self) -> str:
        first = self.units[0].split("/")[1].rsplit(".", 2)[0]
        others = f" ({len(self.units)} units)" if len(self.units) > 1 else ""
        return f"{self.stage}: {first}{others}: {self.reason}"


_RECORD = TypeAdapter(FailedWork)


def failed(stage: str, units: Sequence[Unit], reason: str) -> FailedWork:
    """A failure that happens now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return FailedWork(stage, tuple(unit.path for unit in units), reason, now)


def record(store: Store, failures: Sequence[FailedWork], missing: Collection[Unit]) -> None:
    """Keep `failures`, one JSON file each, and forget earlier ones whose units are not among the `missing`."""
    wanted = {_name(failure): failure for failure in failures}
    missing_paths = {unit.path for unit in missing}
    for name in store.files.names(FOLDER):
        earlier = _read(store, name)
        if name not in wanted and (earlier is None or missing_paths.isdisjoint(earlier.units)):
            store.files.delete(f"{FOLDER}/{name}")
    for name, failure in wanted.items():
        store.write_json(f"{FOLDER}/{name}", _RECORD.dump_json(failure, indent=1))


def recorded(store: Store, missing: Collection[Unit]) -> list[FailedWork]:
    """The failures of earlier runs that left some of the `missing` units missing."""
    missing_paths = {unit.path for unit in missing}
    found = [_read(store, name) for name in store.files.names(FOLDER)]
    return [failure for failure in found if failure and not missing_paths.isdisjoint(failure.units)]


def _name(failure: FailedWork) -> str:
    table, name = failure.units[0].split("/")
    return f"{table}.{name.removesuffix('.parquet')}.json"


def _read(store: Store, name: str) -> FailedWork | None:
    try:
        return _RECORD.validate_json(store.read_json(f"{FOLDER}/{name}"))
    except (ValidationError, WorkError, BrokenSeal):  # gone since it was listed, of another version, damaged
        return None
