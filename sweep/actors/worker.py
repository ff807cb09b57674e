"""The worker: an actor that keeps backbones and readouts in memory and turns pieces of work into stored units."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray

from sweep.actors.devices import configure_tensorflow, oom_kills
from sweep.actors.measure import measure
from sweep.actors.root import Token, check_root
from sweep.actors.training import in_words
from sweep.actors.usage import Meter
from sweep.stages.finetune import Finetuning, Trainer
from sweep.stages.loaded import Context, Loaded
from sweep.stages.stage import Piece


class Worker:
    """The actor itself: one process, one device."""

    def __init__(self, threads: int) -> None:
        configure_tensorflow(threads)
        self._loaded: Loaded | None = None
        self._trainers: dict[str, Trainer] = {}
        """By the process whose trials they train."""
        self._meter = Meter()

    def start(self, token: Token) -> int:
        """Prove that this process reaches the run's results root; returns how often its kernel ran out of memory.

        Raises RootError where it does not.
        """
        check_root(token)
        return oom_kills()

    def ready(self) -> None:
        """Answer, which says that the process lives."""

    def do(self, context: "Sequence[ray.ObjectRef[Context]]", piece: Piece) -> Mapping[str, float]:
        """Compute and store the units of a piece; returns how busy the node was meanwhile.

        `context` holds a reference, resolved at the first call.
        """
        self._trainers.clear()  # and with them the features that they keep
        do_piece(self._load(context), piece)
        return self._meter.read()

    def join(self, process: str, shared: "Sequence[ray.ObjectRef[Finetuning]]", alone: bool) -> bool:
        """Train for a process's trials from now on; not if that asks to be `alone` here and is not."""
        if alone and self._trainers:
            return False
        self._trainers[process] = Trainer(ray.get(shared[0]))
        return True

    def leave(self, process: str) -> None:
        """Train no more for a process."""
        self._trainers.pop(process, None)

    @in_words
    def begin(self, process: str, model: str) -> None:
        """Take on the next model of a process. Raises TrialError, as does `epoch`."""
        self._trainers[process].begin(model)

    @in_words
    def epoch(self, process: str) -> Mapping[str, Any]:
        """Train an epoch of it; returns what Ray Tune is told."""
        return self._trainers[process].epoch()

    def measure(
        self, context: "Sequence[ray.ObjectRef[Context]]", backbone: str, scratch: str, index: int
    ) -> dict[str, float]:
        """Measure how fast this worker is; `scratch` is a store to write to, `index` tells the workers apart."""
        loaded = self._load(context)
        evaluator = loaded.evaluator(backbone)
        images = tuple(range(min(evaluator.batch, len(loaded.context.image_ids))))
        return measure(loaded.context, evaluator, loaded.inputs(backbone, images), scratch, index)

    def _load(self, context: "Sequence[ray.ObjectRef[Context]]") -> Loaded:
        if self._loaded is None:
            self._loaded = Loaded(ray.get(context[0]), ray.get)
        return self._loaded


def do_piece(loaded: Loaded, piece: Piece) -> None:
    """Compute a piece of work; every unit is stored before the next is computed.

    Raises WorkError where something stored is missing or damaged.
    """
    for result in piece.compute(loaded):
        rows = result.rows if isinstance(result.rows, pa.Table) else pa.table(dict(result.rows))
        loaded.store.write(result.unit, rows, loaded.context.schemas[result.unit.table], result.parts)
