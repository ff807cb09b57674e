"""Where a trial trains: in its own process, or in a worker that has the device and TensorFlow already.

On one machine the workers train, and trials only say when: nothing is started twice. On a cluster that was joined the
trials take the workers' places, so that Ray sees what each of them needs and the cluster grows with their number.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from sweep.actors.reasons import last_line
from sweep.errors import WorkError
from sweep.stages.finetune import Finetuning


class TrialError(WorkError):
    """What went wrong in a trial, as a line: an error of any other kind may not survive the way to Tune and its files."""


def in_words(step: Callable[..., Any]) -> Callable[..., Any]:
    """Turn whatever a step raises into a TrialError, so that it ends this trial and no other.

    That a worker died is passed on as it is: the model is not to blame, and is tried again.
    """

    @functools.wraps(step)
    def wrapped(*args: Any, **options: Any) -> Any:
        try:
            return step(*args, **options)
        except RayActorError:
            raise
        except TrialError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            raise TrialError(str(cause)) from None
        except Exception as error:
            raise TrialError(last_line(error)) from None

    return wrapped


class Remote:
    """A trainer in one of the workers, as `sweep.stages.finetune.Trainer` to whoever uses it."""

    def __init__(self, workers: Sequence[Any], shared: "Sequence[ray.ObjectRef[Finetuning]]") -> None:
        """Take a worker that trains for nobody else, or any that lives. Raises RayActorError where none does."""
        self._me = f"{os.getpid()}"
        self._worker = self._taken(workers, shared)

    def begin(self, model: str) -> None:
        """Take a model on."""
        ray.get(self._worker.begin.remote(self._me, model))

    def epoch(self) -> dict[str, Any]:
        """Train an epoch; returns what Ray Tune is told of it."""
        told: dict[str, Any] = ray.get(self._worker.epoch.remote(self._me))
        return told

    def leave(self) -> None:
        """Let others have the worker."""
        self._worker.leave.remote(self._me)

    def _taken(self, workers: Sequence[Any], shared: "Sequence[ray.ObjectRef[Finetuning]]") -> Any:
        dead: RayActorError | None = None
        for alone in (True, False):
            for worker in workers:
                try:
                    if ray.get(worker.join.remote(self._me, shared, alone)):
                        return worker
                except RayActorError as error:
                    dead = error
        assert dead is not None, "a worker that lives takes whoever need not be alone"
        raise dead
