"""The finetunes: Ray Tune schedules one trial per model; a trial trains one readout on stored features.

A trial keeps its process (Tune reuses it) and the worker in which it trains (`sweep.actors.training`), so a backbone's
features are read once per worker.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.tune import Callback, CheckpointConfig, CLIReporter, FailureConfig, RunConfig, TuneConfig, Tuner

from sweep.actors.devices import Share, configure_tensorflow, trial_share
from sweep.actors.nodes import Nodes
from sweep.actors.pool import WorkerPool
from sweep.actors.reasons import last_line
from sweep.actors.root import Token, check_root
from sweep.actors.training import Remote, TrialError, in_words
from sweep.errors import WorkError
from sweep.plan import Model, Plan
from sweep.stages.finetune import Finetuning, Trainer, Trial, trial_of, trunks_of, validation_mask
from sweep.storage.store import Store
from sweep.tracking import Tracker

FLUSH_SECONDS = 2.0
"""How often a running trial's epochs are sent to MLflow."""
TRIAL_FAILURES = 2
"""How often a trial that died is started again."""


class ReadoutTrial(tune.Trainable):  # type: ignore[misc]
    """One trial: a step is an epoch."""

    @in_words
    def setup(
        self,
        config: dict[str, Any],
        shared: "Sequence[ray.ObjectRef[Finetuning]]",
        threads: int,
        token: Token,
        workers: Sequence[Any],
    ) -> None:
        """Start the first model, in one of the `workers` or, without any, here."""
        self._trainer: Trainer | Remote
        if workers:
            self._trainer = Remote(workers, shared)
        else:
            check_root(token)
            configure_tensorflow(threads)
            self._trainer = Trainer(ray.get(shared[0]))
        self._begin(config)

    @in_words
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next model in the same process."""
        self._begin(new_config)
        return True

    @in_words
    def step(self) -> dict[str, Any]:
        """Train an epoch; after the last, store the model."""
        return self._trainer.epoch()

    @in_words
    def cleanup(self) -> None:
        """Let others have the worker, once Tune has no more models for this process."""
        if isinstance(trainer := getattr(self, "_trainer", None), Remote):
            trainer.leave()

    def _begin(self, config: Mapping[str, Any]) -> None:
        self._trainer.begin(config["model"])


class _Progress(Callback):  # type: ignore[misc]
    """Passes what Tune reports on to MLflow and to the display, and keeps what went wrong."""

    def __init__(self, tracker: Tracker, trials: Mapping[str, Trial], on_done: Callable[[int], None]) -> None:
        self._tracker, self._trials, self._on_done = tracker, trials, on_done
        self._pending: dict[str, list[dict[str, Any]]] = {}
        self._sent = time.monotonic()
        self.problems: dict[str, str] = {}
        """Why each model that failed did so, by model."""
        self.died: list[str] = []
        """Models whose process died."""
        self.ended = "Ray Tune ended without it"
        """Why the others that are not stored were not trained."""

    def order(self, name: str) -> str:
        """What models are sorted by."""
        return self._trials[name].features[0].path

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
            self._tracker.finish_model(done.run_id, accuracies, last["epoch"])
        self._on_done(2)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        name = trial.config["model"]
        try:
            error = _error_of(trial)
        except Exception as unreadable:
            error = unreadable
        # An error of the first step of a process comes within the text of another.
        line = last_line(error)
        told = line.rpartition(f"{TrialError.__name__}: ")[2]
        self.problems[name] = told
        if told == line:
            self.died.append(name)

    def _flush(self) -> None:
        now = int(time.time() * 1000)
        for run_id, rows in self._pending.items():
            self._tracker.epochs(run_id, rows, now)
        self._pending.clear()
        self._sent = time.monotonic()


def _error_of(trial: Any) -> Exception:
    """Why a trial has failed, from the files that Tune has just written; its storage gets them later."""
    if path := trial.pickled_error_file:
        error: Exception = cloudpickle.loads(Path(path).read_bytes())
        return error
    return WorkError(Path(trial.error_file).read_text())


def finetune(
    plan: Plan,
    models: Sequence[Model],
    store: Store,
    tracker: Tracker,
    on_done: Callable[[int], None],
    at: WorkerPool | Nodes | None = None,
    trial_bytes: int = 0,
) -> list[tuple[str, str]]:
    """Train and store `models`, calling `on_done` with the number of units stored.

    Trials train in the workers of a pool, or on nodes in processes of their own, which take `trial_bytes` of memory each.
    Returns the id of every model that could not be trained, and why. Raises WorkError where none of the nodes reaches the
    results root.
    """
    runs = tracker.start_models(models)
    trials = {model.id: trial_of(plan, model, runs.get(model.id)) for model in models}
    progress = _Progress(tracker, trials, on_done)
    shared = [ray.put(Finetuning(store, trials, validation_mask(plan), trunks_of(plan, models)))]

    def fit(names: Sequence[str], at_once: int = 0) -> None:
        if isinstance(at, WorkerPool):
            workers, places = at.hire(len(names)), _at_the_driver()
            at_once = at_once or len(workers)
            own = {"workers": workers, "threads": 0, "token": at.nodes.token}
        else:
            nodes = at or Nodes(store)
            nodes.probe(tensorflow=True)
            share = trial_share(list(nodes.usable().values()), trial_bytes)
            places = _bundle(share, nodes)
            own = {"workers": (), "threads": share.threads, "token": nodes.token}
        trainable = tune.with_resources(tune.with_parameters(ReadoutTrial, shared=shared, **own), places)
        _fit(plan.study.name, trainable, names, progress, store, at_once)

    fit(list(trials))
    # Processes that died may have been too many for the memory: their models are tried one at a time.
    if died := [name for name in progress.died if store.missing([trials[name].model_unit])]:
        fit(died, at_once=1)
    absent = {unit.label for unit in store.missing([trial.model_unit for trial in trials.values()])}
    return [(name, progress.problems.get(name, progress.ended)) for name in trials if name in absent]


def _at_the_driver() -> tune.PlacementGroupFactory:
    """What a trial takes that trains elsewhere: nothing, but Tune wants it to be something."""
    return tune.PlacementGroupFactory([{"node:__internal_head__": 1e-3}])


def _bundle(share: Share, nodes: Nodes) -> tune.PlacementGroupFactory:
    """What a trial takes, on a node that is not set aside."""
    wanted = {"CPU": share.cpus, "GPU": share.gpus, "memory": share.memory}
    where = {"bundle_label_selector": [nodes.selector]} if nodes.selector else {}
    return tune.PlacementGroupFactory([{kind: amount for kind, amount in wanted.items() if amount}], **where)


def _fit(
    name: str, trainable: Any, models: Sequence[str], progress: _Progress, store: Store, at_once: int
) -> None:
    """Let Tune train `models`; what went wrong is in `progress`. `at_once` limits how many, where it is not 0."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the tables and MLflow keep what these would
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is the pipeline's to handle
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the newer display prints even when told not to
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is told in a line, by the pipeline
    progress.died.clear()
    # Tune's own files are scratch: what a study keeps is in the store, and missing models are found there.
    with store.scratch("tune") as scratch:
        tuner = Tuner(
            trainable,
            # Models of one backbone follow each other, so that a worker reads each backbone's features once.
            param_space={"model": tune.grid_search(sorted(models, key=progress.order))},
            tune_config=TuneConfig(reuse_actors=True, max_concurrent_trials=at_once or None),
            run_config=RunConfig(
                name=name,
                storage_path=scratch,
                failure_config=FailureConfig(max_failures=TRIAL_FAILURES),
                # A model trains in seconds to minutes; one that is lost starts again.
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                callbacks=[progress],
                verbose=0,
                # In a notebook Tune would take another one, which clears the cell of all that was shown before.
                progress_reporter=CLIReporter(),
            ),
        )
        try:
            tuner.fit()
        except (
            Exception
        ) as error:  # Tune itself has failed: the models that it did not come to are told with it
            progress.ended = f"Ray Tune ended: {last_line(error)}"
