"""The results of a study: one folder per table, one Parquet file per unit of work.

A unit's file is `<root>/<table>/<label>.<key>.parquet`: the label is for people, the key is a hash of what
determines the rows. A file is complete or absent: it is written under another name and renamed. Nothing
else in the package knows these paths.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq

from sweep.errors import InputError, WorkError

PARKED = ".parked"
"""Folder, inside a table's, for units that the study no longer asks for; they return when it asks again."""
_SUFFIX = ".parquet"
_UNIT = re.compile(r"^(?P<label>.+)\.(?P<key>[0-9a-f]{20})\.parquet$")


@dataclass(frozen=True)
class Unit:
    """The smallest piece of work that is stored whole."""

    table: str
    label: str
    """Readable part of the file's name."""
    key: str
    """Hash of everything that determines the rows."""
    rows: int
    """How many rows the unit has."""

    @property
    def path(self) -> str:
        """Address of the unit's file, relative to the results root."""
        return f"{self.table}/{self.label}.{self.key}{_SUFFIX}"


class Store:
    """Reads and writes the units under one results root, a local folder or an object store's address."""

    def __init__(self, root: str) -> None:
        """Open `root`, which need not exist yet. Raises InputError where the address cannot be understood."""
        self._local = "://" not in root
        if self._local:
            self.root = self._base = str(Path(root).resolve())
            self._files: fs.FileSystem = fs.LocalFileSystem()
        else:
            self.root = root
            try:
                self._files, self._base = fs.FileSystem.from_uri(root)
            except (pa.ArrowInvalid, OSError) as error:
                raise InputError(f"--results {root}: not a usable address: {error}") from None

    def missing(self, units: Sequence[Unit]) -> list[Unit]:
        """Those of `units` that are not stored, in the order given."""
        present = {table: self._names(table) for table in {unit.table for unit in units}}
        return [unit for unit in units if unit.path.split("/")[1] not in present[unit.table]]

    def write(self, unit: Unit, rows: pa.Table, schema: pa.Schema) -> None:
        """Store a unit whole. Raises WorkError where the rows are not what was planned."""
        if rows.num_rows != unit.rows:
            raise WorkError(f"{unit.path}: {rows.num_rows} rows were computed where {unit.rows} were planned")
        sink = pa.BufferOutputStream()
        pq.write_table(rows.cast(schema), sink, compression="zstd")
        self.write_file(unit.path, sink.getvalue().to_pybytes())

    def read(self, units: Iterable[Unit], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of stored units, in the order given.

        Raises WorkError naming the file that is missing or damaged.
        """
        tables = []
        for unit in units:
            try:
                source = pa.BufferReader(self.read_file(unit.path))
                tables.append(pq.read_table(source, columns=list(columns) if columns else None))
            except pa.ArrowInvalid as error:
                raise WorkError(
                    f"{self.root}/{unit.path}: damaged ({error}); delete it and run again"
                ) from None
        return pa.concat_tables(tables)

    def write_file(self, path: str, content: bytes) -> str:
        """Store `content` at `path` (relative to the root), whole or not at all; returns its SHA-256."""
        target = f"{self._base}/{path}"
        self._files.create_dir(target.rsplit("/", 1)[0], recursive=True)
        if not self._local:
            # An object store shows an object only once its upload is complete.
            with self._files.open_output_stream(target) as stream:
                stream.write(content)
        else:
            temporary = Path(f"{self._base}/.tmp/{uuid.uuid4().hex}")
            temporary.parent.mkdir(exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        return hashlib.sha256(content).hexdigest()

    def read_file(self, path: str) -> bytes:
        """Content of the file at `path`, relative to the root. Raises WorkError where there is none."""
        try:
            with self._files.open_input_stream(f"{self._base}/{path}") as stream:
                return bytes(stream.readall())
        except FileNotFoundError:
            raise WorkError(f"{self.root}/{path}: no such file; run the study again") from None

    @contextmanager
    def scratch(self, name: str) -> Iterator[str]:
        """Address of a folder that every worker reaches and that is gone after the `with` block."""
        folder = f"{self._base}/.{name}"
        if self._files.get_file_info(folder).type == fs.FileType.Directory:
            self._files.delete_dir(folder)
        self._files.create_dir(folder, recursive=True)
        try:
            yield f"{self.root}/.{name}"
        finally:
            self._files.delete_dir(folder)

    def arrange(self, units: Collection[Unit]) -> None:
        """Make the tables' folders hold no unit but `units`: park the others, bring parked ones back.

        So a table's folder is always exactly the study as its file stands, and nothing computed is thrown away.
        """
        for table in {unit.table for unit in units}:
            wanted = {unit.path.split("/")[1] for unit in units if unit.table == table}
            folder = f"{self._base}/{table}"
            parked = self._names(f"{table}/{PARKED}")
            present = self._names(table)
            for name in (wanted & parked) - present:
                self._files.move(f"{folder}/{PARKED}/{name}", f"{folder}/{name}")
            surplus = present - wanted
            if surplus:
                self._files.create_dir(f"{folder}/{PARKED}", recursive=True)
            for name in surplus:
                self._files.move(f"{folder}/{name}", f"{folder}/{PARKED}/{name}")

    def _names(self, folder: str) -> set[str]:
        selector = fs.FileSelector(f"{self._base}/{folder}", allow_not_found=True)
        return {info.base_name for info in self._files.get_file_info(selector) if _UNIT.match(info.base_name)}
