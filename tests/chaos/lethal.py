"""A store that kills whoever reads or writes a certain unit, as an image that crashes a decoder would."""

import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from sweep.storage.store import Parts, Store, Unit


class LethalStore(Store):
    """Kills the process that reads the unit 'poisoned', or has written 'last words', and counts them in `deaths`."""

    def read(self, units: Iterable[Unit], columns: Sequence[str] | None = None) -> pa.Table:
        wanted = list(units)
        if any(unit.label == "poisoned" for unit in wanted):
            self._kill()
        return super().read(wanted, columns)

    def write(self, unit: Unit, rows: pa.Table, schema: pa.Schema, parts: Parts | None = None) -> None:
        super().write(unit, rows, schema, parts)
        if unit.label == "last words":
            self._kill()

    def _kill(self) -> None:
        with (Path(self.root) / "deaths").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
