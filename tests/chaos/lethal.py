"""A store that kills whoever reads a certain unit, as an image that crashes a decoder would."""

import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from sweep.store import Store, Unit


class LethalStore(Store):
    """Kills the process that reads the unit 'poisoned', and counts the deaths in the file `deaths`."""

    def read(self, units: Iterable[Unit], columns: Sequence[str] | None = None) -> pa.Table:
        wanted = list(units)
        if any(unit.label == "poisoned" for unit in wanted):
            with (Path(self.root) / "deaths").open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(wanted, columns)
