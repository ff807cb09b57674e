"""The finetunes: Ray Tune schedules one trial per model; a trial trains one readout on stored features.

A trial keeps its process (Tune reuses it), so TensorFlow starts once per worker and a backbone's features
are read once per worker. A trial stores weights and epochs first and the model's row last.
"""

import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

from sweep.actors.devices import alive_nodes, configure_tensorflow, trial_share
from sweep.actors.pool import last_line
from sweep.errors import WorkError
from sweep.plan import Model, Plan
from sweep.stages.finetune import Trial, store_model, trial_of, validation_mask
from sweep.storage.arrays import matrix
from sweep.storage.store import Store, Unit
from sweep.tracking import Tracker

FLUSH_SECONDS = 2.0
"""How often a running trial's epochs are sent to MLflow."""
TRIAL_FAILURES = 2
"""How often a trial that died is started again."""


class ReadoutTrial(tune.Trainable):  # type: ignore[misc]
    """One trial: a step is an epoch."""

    def setup(
        self, config: dict[str, Any], store: Store, trials: Mapping[str, Trial], validation: Any, threads: int
    ) -> None:
        """Keep what all trials of a worker share, and start the first model."""
        configure_tensorflow(threads)
        self._store, self._trials, self._validation = store, trials, validation
        self._features = functools.lru_cache(maxsize=1)(self._read_features)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next model in the same process."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch; after the last, store the model."""
        epoch = self._training.epoch()
        self._epochs.append(epoch)
        done = len(self._epochs) == self._trial.model.cell.finetune.epochs
        return asdict(epoch) | {"done": done} | (self._finish() if done else {})

    def _begin(self, config: Mapping[str, Any]) -> None:
        from sweep.numerics.readout import ReadoutTraining

        self._trial = self._trials[config["model"]]
        model = self._trial.model
        self._training = ReadoutTraining(
            self._features(self._trial.features),
            np.asarray(model.labels),
            self._validation,
            len(model.classes),
            model.cell.finetune,
            model.key,
        )
        self._epochs: list[Any] = []

    def _finish(self) -> dict[str, float]:
        trial, model = self._trial, self._trial.model
        readout = self._training.readout()
        logits = readout.logits(self._features(trial.features))
        if not np.isfinite(logits).all():
            raise WorkError("the logits of the trained model are not finite; lower finetune.learning_rate")
        correct = logits.argmax(axis=1) == np.asarray(model.labels)
        accuracies = {
            "train_accuracy": float(correct[~self._validation].mean()),
            "val_accuracy": float(correct[self._validation].mean()),
        }
        store_model(self._store, trial, readout.to_bytes(), accuracies, self._epochs)
        return accuracies

    def _read_features(self, units: tuple[Unit, ...]) -> Any:
        return matrix(self._store.read(units, columns=["features"])["features"])


class _Progress(Callback):  # type: ignore[misc]
    """Passes what Tune reports on to MLflow and to the display."""

    def __init__(self, tracker: Tracker, trials: Mapping[str, Trial], on_done: Callable[[int], None]) -> None:
        self._tracker, self._trials, self._on_done = tracker, trials, on_done
        self._pending: dict[str, list[dict[str, Any]]] = {}
        self._sent = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks for a restore; ours live with the driver, and nothing is restored

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any) -> None:
        run_id = self._trials[trial.config["model"]].run_id
        if run_id is not None:
            self._pending.setdefault(run_id, []).append(result)
            if time.monotonic() - self._sent > FLUSH_SECONDS:
                self._flush()

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        done = self._trials[trial.config["model"]]
        if done.run_id is not None:
            self._flush()
            last = trial.last_result
            accuracies = {k: last[k] for k in ("train_accuracy", "val_accuracy")}
            self._tracker.finish_model(done.run_id, accuracies, done.model.cell.finetune.epochs)
        self._on_done(2)

    def _flush(self) -> None:
        now = int(time.time() * 1000)
        for run_id, rows in self._pending.items():
            self._tracker.epochs(run_id, rows, now)
        self._pending.clear()
        self._sent = time.monotonic()


def finetune(
    plan: Plan,
    models: Sequence[Model],
    store: Store,
    tracker: Tracker,
    on_done: Callable[[int], None],
) -> list[tuple[str, str]]:
    """Train and store `models`, calling `on_done` with the number of units stored.

    Returns the id of every model that could not be trained, and why.
    """
    runs = tracker.start_models(models)
    share = trial_share(list(alive_nodes().values()))
    trials = {model.id: trial_of(plan, model, runs.get(model.id)) for model in models}
    validation = validation_mask(plan)
    trainable = tune.with_parameters(
        ReadoutTrial, store=store, trials=trials, validation=validation, threads=share.threads
    )
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the tables and MLflow keep what these would
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is the pipeline's to handle
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the newer display prints even when told not to
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is told in a line, by the pipeline
    # Tune's own files are scratch: what a study keeps is in the store, and missing models are found there.
    with store.scratch("tune") as scratch:
        results = Tuner(
            tune.with_resources(trainable, {"cpu": share.cpus, "gpu": share.gpus}),
            # Models of one backbone follow each other, so that a worker reads each backbone's features once.
            param_space={
                "model": tune.grid_search(sorted(trials, key=lambda name: trials[name].features[0].path))
            },
            tune_config=TuneConfig(reuse_actors=True),
            run_config=RunConfig(
                name=plan.study.name,
                storage_path=scratch,
                failure_config=FailureConfig(max_failures=TRIAL_FAILURES),
                # A model trains in seconds to minutes; one that is lost starts again.
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                callbacks=[_Progress(tracker, trials, on_done)],
                verbose=0,
            ),
        ).fit()
    return [(r.config["model"], last_line(r.error)) for r in results if r.error is not None]
