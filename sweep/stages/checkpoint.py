"""What is kept of a head while it is trained, so that a kill costs a few seconds and no more."""

import io
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.errors import StoreError, WorkError
from sweep.plan import Model
from sweep.storage.store import Store

if TYPE_CHECKING:
    from sweep.numerics.head import Head
    from sweep.numerics.head_training import HeadTraining

SECONDS = 10.0
"""How long training goes on between two checkpoints."""
FOLDER = "checkpoints"
"""Where they lie, relative to the results; each is gone once its model is stored."""


class Checkpoint:
    """The checkpoint of one model."""

    def __init__(self, store: Store, model: Model) -> None:
        self._store, self._model = store, model.id
        self._path = f"{FOLDER}/{model.id}.{model.key}.npz"
        self._kept = time.monotonic()

    def restore(self, training: "HeadTraining") -> tuple[list[Any], "Head | None"]:
        """Let `training` go on from what is kept, if anything is; returns its epochs until then, and its best head.

        A checkpoint that cannot be read counts as none: its model is trained from the beginning.
        """
        from sweep.lrp.network_file import from_bytes
        from sweep.numerics.head import Head
        from sweep.numerics.readout import EpochMetrics

        try:
            content = self._store.read_file(self._path)
        except StoreError:
            raise
        except WorkError:
            return [], None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                state = {name: file[name] for name in file.files}
            epochs = [EpochMetrics(**epoch) for epoch in json.loads(str(state.pop("epochs")))]
            best = state.pop("best").tobytes()
            head = Head(from_bytes(best)[0]) if best else None
            if int(state["epochs_done"]) != len(epochs):
                return [], None
            training.restore(state)
        except Exception:  # a damaged archive can raise anything
            return [], None
        return epochs, head

    def keep(self, training: "HeadTraining", epochs: Sequence[Any], best: "Head | None") -> None:
        """Store where training stands, unless that was done a moment ago."""
        if time.monotonic() - self._kept < SECONDS:
            return
        state: dict[str, Any] = training.state()
        content = io.BytesIO()
        told: dict[str, Any] = {
            "epochs": np.array(json.dumps([asdict(epoch) for epoch in epochs])),
            "best": np.frombuffer(best.to_bytes() if best else b"", np.uint8),
        }
        np.savez(content, **told, **state)
        self._store.write_file(self._path, content.getvalue())
        self._kept = time.monotonic()

    def remove(self) -> None:
        """Remove it, as the model is stored, and those of the model as an earlier version of the study asked for it."""
        for name in self._store.files.names(FOLDER):
            if name.rsplit(".", 2)[0] == self._model:
                self._store.files.delete(f"{FOLDER}/{name}")
