"""The runs of one study at one address: found by their tags, made where there are none. What MLflow raises is passed on."""

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sweep.plan import Model, Plan
from sweep.storage.files import Files
from sweep.tracking.connection import artifact_root, default_uri
from sweep.tracking.database import check_database
from sweep.tracking.faults import RefusedError, RunRefusedError, deleted_experiment
from sweep.tracking.identity import RESULTS_TAG, is_own, results_id
from sweep.tracking.records import dataset_input, epoch_metrics, model_parameters, study_tags

STUDY_TAG, MODEL_TAG, PARENT_TAG = "sweep.study", "sweep.model_key", "mlflow.parentRunId"
FILES_TAG = "sweep.files"
"""Set once a model's run has its files."""
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
BATCH = 1000
"""Metrics that MLflow takes in one request."""

Rows = Sequence[Mapping[str, float]]
Answer = TypeVar("Answer")


class StudyRuns:
    """A study's run and those of its models; what is known of them is what the last look has found."""

    def __init__(self, plan: Plan, results: str, uri: str) -> None:
        """Name a study and an address; nothing is asked of MLflow yet."""
        self._plan, self._results, self._uri = plan, results, uri
        self._results_id = results_id(Files(f"{results.rstrip('/')}/{plan.study.name}"))
        self._client: Any = None
        self._experiment = ""
        self.parent = ""
        """The study's run; empty before the first look."""
        self._begun: dict[str, int] = {}
        """When the study's run began, in milliseconds."""
        self.of: dict[str, str] = {}
        """Run by model key."""
        self.done: set[str] = set()
        """Runs that are finished and lack nothing but files."""
        self.with_files: set[str] = set()
        self._open: set[str] = set()
        """Runs that were started here and are not closed yet."""
        self._steps: dict[str, set[int]] = {}
        """Epochs that MLflow has, by run."""
        self._sure = False

    def be_sure(self) -> None:
        """Look, unless nothing has happened since that leaves in doubt which runs there are."""
        if not self._sure:
            self.look()

    def look(self) -> None:
        """Find the study's runs, connecting first; makes the study's own where there is none."""
        self._connect()
        parents: list[Any] = []
        models: dict[str, list[Any]] = {}
        for run in self._search(f"tags.`{STUDY_TAG}` != ''"):
            tags = run.data.tags
            if is_own(tags, self._results_id, beside=self._uri == default_uri(self._results)):
                key = tags.get(MODEL_TAG)
                (parents if key is None else models.setdefault(key, [])).append(run)
        runs = [self._one_of(same) for same in models.values()]
        above = {run.data.tags.get(PARENT_TAG) for run in runs}
        parent = self._one_of(parents, above).info.run_id if parents else ""
        if parent:
            self._client.update_run(parent, status="RUNNING")
        else:
            tags = {STUDY_TAG: self._plan.study.name, RESULTS_TAG: self._results_id}
            parent = self._create(tags, self._plan.study.name)
        if parent != self.parent:
            self.tag(parent, study_tags(self._plan))
            self._client.log_inputs(parent, [dataset_input(self._plan)])
        for run in runs:  # those of a run that was deleted would be shown under none
            if run.data.tags.get(PARENT_TAG) != parent:
                self.tag(run.info.run_id, {PARENT_TAG: parent})
        self.parent = parent
        self.of = {run.data.tags[MODEL_TAG]: run.info.run_id for run in runs}
        self.done = {run.info.run_id for run in runs if run.info.status == FINISHED}
        self.with_files = {run.info.run_id for run in runs if FILES_TAG in run.data.tags}
        self._open &= {*self.of.values()}
        self._sure = True

    def of_one(self, call: Callable[[], Answer]) -> Answer:
        """What `call` returns, which is about one model's run.

        Raises RunRefusedError where MLflow still answers other questions, so that the fault is this run's own.
        """
        try:
            return call()
        except Exception as error:
            experiment = self._client.get_experiment(self._experiment)
            if experiment.lifecycle_stage == "deleted":
                raise RefusedError(deleted_experiment(experiment.name, self._experiment)) from None
            raise RunRefusedError(error) from error

    def start(self, model: Model) -> str:
        """Id of a model's run, found or made, which is RUNNING from now on."""
        from mlflow.entities import Param

        run_id = self.of.get(model.key)
        if run_id is None:
            tags = {
                STUDY_TAG: self._plan.study.name,
                RESULTS_TAG: self._results_id,
                MODEL_TAG: model.key,
                PARENT_TAG: self.parent,
            }
            run_id = self.of[model.key] = self._create(tags, model.id)
            self._steps[run_id] = set()
        else:
            self._client.update_run(run_id, status="RUNNING")
            known = self._client.get_metric_history(run_id, "val_accuracy")
            self._steps[run_id] = {metric.step for metric in known}
        self._open.add(run_id)
        parameters = [Param(name, value) for name, value in model_parameters(model).items()]
        self._client.log_batch(run_id, params=parameters)
        return run_id

    def epochs_of(self, run_id: str) -> int:
        """How many epochs a run that was started here has."""
        return len(self._steps.get(run_id, ()))

    def log_epochs(self, run_id: str, rows: Rows, time_ms: int) -> None:
        """Record those epochs that the run lacks."""
        known = self._steps.setdefault(run_id, set())
        missing = [row for row in rows if row["epoch"] not in known]
        metrics = epoch_metrics(missing, time_ms)
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        known |= {int(row["epoch"]) for row in missing}

    def finish(self, run_id: str, accuracies: Mapping[str, float]) -> None:
        """Close a model's run with its final accuracies."""
        self._metrics(run_id, {f"final_{name}": value for name, value in accuracies.items()})
        self._client.set_terminated(run_id, FINISHED)
        self._open.discard(run_id)
        self.done.add(run_id)

    def measure(self, run_id: str, values: Mapping[str, float]) -> None:
        """Record those of a run's `values` that MLflow does not have, up to the last digits."""
        known = self._client.get_run(run_id).data.metrics
        new = {
            name: value
            for name, value in values.items()
            if name not in known or not math.isclose(known[name], value, rel_tol=1e-9, abs_tol=1e-9)
        }
        if new:
            self._metrics(run_id, new)

    def log_stages(self, seconds: Mapping[str, float]) -> None:
        """Record how long stages took."""
        self._metrics(self.parent, {f"stage_seconds.{stage}": value for stage, value in seconds.items()})

    def log_usage(self, values: Mapping[str, float]) -> None:
        """Record how busy nodes are; the step is the seconds since the study's run began, also when it goes on later."""
        if self.parent not in self._begun:
            self._begun[self.parent] = int(self._client.get_run(self.parent).info.start_time)
        self._metrics(self.parent, values, step=int(time.time() - self._begun[self.parent] / 1000))

    def attach(self, run_id: str, files: Mapping[str, bytes], tags: Mapping[str, str]) -> None:
        """Send files, by path, and then tags."""
        if files:
            with tempfile.TemporaryDirectory() as folder:
                for path, content in files.items():
                    local = Path(folder) / path
                    local.parent.mkdir(parents=True, exist_ok=True)
                    local.write_bytes(content)
                self._client.log_artifacts(run_id, folder)
        self.tag(run_id, tags)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        from mlflow.entities import RunTag

        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def close(self, status: str) -> None:
        """Close the study's run, and as KILLED (or FAILED) every other that is still open."""
        for run_id in sorted(self._open):
            with suppress(RunRefusedError):  # deleted, for instance; the others are still to be closed
                self.of_one(
                    partial(self._client.set_terminated, run_id, FAILED if status == FAILED else KILLED)
                )
        self._client.set_terminated(self.parent, status)

    def _connect(self) -> None:
        from mlflow import MlflowClient

        for name in ("mlflow", "mlflow.store.db.utils", "alembic"):  # MLflow sets their levels when imported
            logging.getLogger(name).setLevel(logging.WARNING)
        # What it warns of, we report once.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        if self._client is None:
            check_database(self._uri)
        place = artifact_root(self._uri, self._results)
        self._client = MlflowClient(self._uri)
        name = self._plan.study.name
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            self._experiment = self._client.create_experiment(name, artifact_location=place)
            return
        self._experiment = experiment.experiment_id
        if experiment.lifecycle_stage == "deleted":
            raise RefusedError(deleted_experiment(f"'{name}'", self._experiment))

    def _one_of(self, runs: Sequence[Any], above: Iterable[str | None] = ()) -> Any:
        """The one of several runs of the same thing to go on with: what has most to lose, and of those the oldest.

        MLflow repeats a request to create a run when its answer is late, and then there are two. The empty one is
        deleted.
        """
        known = {*self.of.values(), self.parent}

        def least_to_lose(run: Any) -> tuple[Any, ...]:
            info = run.info
            missed = (info.run_id not in above, info.status != FINISHED, not run.data.metrics)
            return (*missed, info.run_id not in known, info.start_time)

        first, *others = sorted(runs, key=least_to_lose)
        for run in others:
            if not run.data.metrics and run.info.run_id not in above and run.info.status == "RUNNING":
                with suppress(RunRefusedError):
                    self.of_one(partial(self._client.delete_run, run.info.run_id))
        return first

    def _create(self, tags: Mapping[str, str], name: str) -> str:
        # Where no answer comes there may be a run all the same; the next call looks before it makes another one.
        self._sure, before = False, self._sure
        run_id = str(self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id)
        self._sure = before
        return run_id

    def _metrics(self, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            run_id, metrics=[Metric(name, value, now, step) for name, value in values.items()]
        )

    def _search(self, condition: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=1000, page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return found
