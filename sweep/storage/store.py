"""The results of a study: one folder per table, one Parquet file per unit of work.

A unit's file is `<root>/<table>/<label>.<key>.parquet`: the label is for people, the key is a hash of what
determines the rows. A file is complete or absent, and says itself whether it is still what was written
(sweep.storage.sealing). Nothing else in the package knows these paths.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.errors import DamagedError, StoreError, WorkError
from sweep.storage.files import PATIENCE, Files
from sweep.storage.sealing import PARTS, BrokenSeal, check_json, opened, sealed, sealed_json

DAMAGED = ".damaged"
"""Folder, inside a table's, for files that were found to be other than what was written."""
REPLACED = ".replaced"
"""Folder, inside a table's, for the last units that were computed again on request."""
_SUFFIX = ".parquet"
_WEIGHTS = ["weights_uri", "weights_sha256"]
_UNIT = re.compile(r"^(?P<label>.+)\.(?P<key>[0-9a-f]{20})\.parquet$")


@dataclass(frozen=True, slots=True)
class Unit:
    """The smallest piece of work that is stored whole."""

    table: str
    label: str
    """Readable part of the file's name."""
    key: str
    """Hash of everything that determines the rows."""
    rows: int
    """How many rows the unit has."""
    may_have_fewer: bool = False
    """Whether it may also have fewer, but for none."""

    def fits(self, rows: int) -> bool:
        """Whether it can have so many rows."""
        return rows == self.rows or (self.may_have_fewer and 0 < rows < self.rows)

    @property
    def name(self) -> str:
        """Name of the unit's file."""
        return f"{self.label}.{self.key}{_SUFFIX}"

    @property
    def path(self) -> str:
        """Address of the unit's file, relative to the results root."""
        return f"{self.table}/{self.name}"


@dataclass(frozen=True)
class Parts:
    """What the rows of a unit consist of: for each of `outer` and, within it, each of `inner`, as many rows."""

    base: str
    """Key of what all parts share."""
    outer: tuple[str, ...]
    inner: tuple[str, ...]


class Store:
    """Reads and writes the units under one results root, a local folder or an object store's address."""

    def __init__(self, root: str, patience: float = PATIENCE) -> None:
        """Open `root`, which need not exist yet; `patience` is for how many seconds a refusing store is waited for.

        Raises InputError where the address cannot be understood.
        """
        self.files = Files(root, patience)
        self.root = self.files.root

    def missing(self, units: Sequence[Unit]) -> list[Unit]:
        """Those of `units` that are not stored, in the order given."""
        present = {table: self._names(table) for table in {unit.table for unit in units}}
        return [unit for unit in units if unit.name not in present[unit.table]]

    def write(self, unit: Unit, rows: pa.Table, schema: pa.Schema, parts: Parts | None = None) -> None:
        """Store a unit whole, with a note of the parts that it consists of.

        Raises WorkError where the rows are not what was planned, StoreError where the store keeps refusing.
        """
        if not unit.fits(rows.num_rows):
            raise WorkError(f"{unit.path}: {rows.num_rows} rows were computed where {unit.rows} were planned")
        noted = None if parts is None else json.dumps(asdict(parts), separators=(",", ":"))
        self.files.write(unit.path, sealed(rows.cast(schema), unit.path, noted))

    def read(self, units: Iterable[Unit], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of stored units, in the order given, each file checked against its checksum.

        Raises WorkError naming the file that is missing, DamagedError naming one that is damaged; the latter is
        set aside, so that the next run makes it again.
        """
        return pa.concat_tables([self._read(unit, columns) for unit in units])

    def read_weights(self, unit: Unit) -> bytes:
        """The weights that a unit of `models` names.

        Raises WorkError where they are missing, DamagedError where they are not what was stored; the unit is set
        aside then, as `read` does it.
        """
        try:
            return self._weights(self._read(unit, _WEIGHTS))
        except BrokenSeal as problem:
            raise self._damaged(unit, problem) from None

    def others(self, table: str, units: Collection[Unit]) -> list[str]:
        """Paths of a table's stored units that are none of `units`: an earlier version of the study asked for them."""
        expected = {unit.path for unit in units}
        found = (f"{table}/{name}" for name in sorted(self._names(table)))
        return [path for path in found if path not in expected]

    def relatives(self, units: Collection[Unit]) -> dict[Unit, tuple[str, ...]]:
        """For each unit, the paths of stored units of the same table and label but another key."""
        by_label: dict[tuple[str, str], list[str]] = {}
        for table in {unit.table for unit in units}:
            for name in sorted(self._names(table)):
                by_label.setdefault((table, name.rsplit(".", 2)[0]), []).append(f"{table}/{name}")
        return {
            unit: tuple(path for path in by_label.get((unit.table, unit.label), ()) if path != unit.path)
            for unit in units
        }

    def stored_parts(
        self, unit: Unit, parts: Parts, relatives: Iterable[str]
    ) -> dict[tuple[int, int], pa.Table]:
        """Rows of those of a unit's `parts` that its `relatives` hold, by position in `outer` and `inner`.

        A relative that is damaged, gone, or was stored without a note of its parts holds none. Raises StoreError where the
        store keeps refusing.
        """
        found: dict[tuple[int, int], pa.Table] = {}
        places = {
            (outer, inner): (i, j)
            for i, outer in enumerate(parts.outer)
            for j, inner in enumerate(parts.inner)
        }
        for path in relatives:
            try:
                file = opened(self.files.read(path), path, unit.table)
            except StoreError:
                raise
            except (BrokenSeal, WorkError):
                continue
            held = _parts_of(file)
            if held is None or held.base != parts.base:
                continue
            rows = file.read()
            each = len(rows) // (len(held.outer) * len(held.inner))
            for start, part in enumerate(itertools.product(held.outer, held.inner)):
                if part in places:
                    found.setdefault(places[part], rows.slice(start * each, each))
        return found

    def damage(self, unit: Unit) -> str | None:
        """What is wrong with a stored unit's file, or with the weights that a unit of `models` names; or None."""
        try:
            rows = self._opened(unit)
            if unit.table == "models":
                self._weights(rows.read(_WEIGHTS))
        except StoreError:
            raise
        except (BrokenSeal, WorkError) as problem:
            return str(problem)
        return None

    def damage_at(self, path: str) -> str | None:
        """What is wrong with one of the `others`, or with a file of `write_json`; None where it is fine, or gone."""
        try:
            if path.endswith(_SUFFIX):
                table, *_, name = path.split("/")
                opened(self.files.read(path), f"{table}/{name}", table)
            else:
                self.read_json(path)
        except StoreError:
            raise
        except BrokenSeal as problem:
            return str(problem)
        except WorkError:  # a run that goes on meanwhile may move it
            return None
        return None

    def set_aside(self, paths: Iterable[str], folder: str) -> None:
        """Move files into `folder` (DAMAGED or REPLACED) beside them, so that they count as missing."""
        for path in map(PurePosixPath, paths):
            with suppress(FileNotFoundError):
                self.files.move(str(path), str(path.parent / folder / path.name))

    def write_file(self, path: str, content: bytes) -> str:
        """Store `content` at `path` (relative to the root), whole or not at all; returns its SHA-256."""
        self.files.write(path, content)
        return hashlib.sha256(content).hexdigest()

    def write_json(self, path: str, fields: bytes) -> None:
        """Store `fields`, the text of a JSON object, with a checksum among them."""
        self.files.write(path, sealed_json(fields))

    def read_json(self, path: str) -> bytes:
        """What `write_json` stored. Raises WorkError where there is none, BrokenSeal where it is damaged."""
        content = self.files.read(path)
        check_json(content)
        return content

    def read_file(self, path: str) -> bytes:
        """Content of the file at `path`, relative to the root. Raises WorkError where there is none."""
        return self.files.read(path)

    def scratch(self, name: str) -> AbstractContextManager[str]:
        """Address of a folder that every worker reaches and that is gone after the `with` block."""
        return self.files.scratch(name)

    def _read(self, unit: Unit, columns: Sequence[str] | None) -> pa.Table:
        # A second look tells a damaged file from a bad moment of the disk or the network.
        for second_look in (False, True):
            try:
                return self._opened(unit).read(columns=list(columns) if columns else None)
            except BrokenSeal as problem:
                if second_look:
                    raise self._damaged(unit, problem) from None
        raise AssertionError("unreachable")

    def _damaged(self, unit: Unit, problem: BrokenSeal) -> DamagedError:
        self.set_aside([unit.path], DAMAGED)
        return DamagedError(
            f"{self.root}/{unit.path} {problem}; it was set aside, run again to make it again"
        )

    def _weights(self, rows: pa.Table) -> bytes:
        (model,) = rows.to_pylist()
        content = self.files.read(model["weights_uri"])
        if hashlib.sha256(content).hexdigest() != model["weights_sha256"]:
            raise BrokenSeal(f"names {model['weights_uri']}, which does not match its checksum")
        return content

    def _opened(self, unit: Unit) -> pq.ParquetFile:
        file = opened(self.files.read(unit.path), unit.path, unit.table)
        if not unit.fits(file.metadata.num_rows):
            raise BrokenSeal(f"has {file.metadata.num_rows} rows where {unit.rows} were planned")
        return file

    def _names(self, folder: str) -> set[str]:
        return {name for name in self.files.names(folder) if _UNIT.match(name)}


def _parts_of(file: pq.ParquetFile) -> Parts | None:
    noted = (file.metadata.metadata or {}).get(PARTS.encode())
    if noted is None:
        return None
    fields = json.loads(noted)
    return Parts(fields["base"], tuple(fields["outer"]), tuple(fields["inner"]))
