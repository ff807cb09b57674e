"""Readouts as a study stored them."""

import hashlib

from sweep.errors import WorkError
from sweep.readout import Readout
from sweep.store import Store, Unit


def load_readout(store: Store, unit: Unit) -> Readout:
    """The readout that a row of the table `models` names.

    Raises WorkError where the row or the weights are missing, or the weights are not those that were stored.
    """
    row = store.read([unit], columns=["weights_uri", "weights_sha256"]).to_pylist()[0]
    content = store.read_file(row["weights_uri"])
    if hashlib.sha256(content).hexdigest() != row["weights_sha256"]:
        raise WorkError(f"{row['weights_uri']}: not the weights of {unit.label}; delete {unit.path}")
    return Readout.from_bytes(content)
