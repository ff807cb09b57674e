"""The runs of one study: opened, followed, and caught up from the tables where the server was away."""

import functools
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from sweep.analysis.provenance import TableIdentity
from sweep.errors import redacted
from sweep.plan import Model, Plan
from sweep.storage.files import Files
from sweep.tracking.connection import Connection, RefusedError, artifact_root, default_uri, tracking_uri
from sweep.tracking.identity import RESULTS_TAG, is_own, results_id
from sweep.tracking.readouts import ADDRESS_TAG, READOUT, SHA256_TAG
from sweep.tracking.records import dataset_input, epoch_metrics, model_parameters, study_files, study_tags

STUDY_TAG, MODEL_TAG, PARENT_TAG = "sweep.study", "sweep.model_key", "mlflow.parentRunId"
FILES_TAG = "sweep.files"
"""Set once a model's run has its files."""
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
BATCH = 1000
"""Metrics that MLflow takes in one request."""
RUNS_WITH_FILES = 200
"""Models whose runs get files of their own, the first in the plan's order; the others name the store's address."""

Rows = Sequence[Mapping[str, float]]
Answer = TypeVar("Answer")


class Tracker:
    """The runs of one study. No method raises or blocks for long when the tracking server is away."""

    def __init__(self, plan: Plan, results: str) -> None:
        """Open the study's experiment and its parent run, creating what does not exist yet."""
        self.uri = tracking_uri(results)
        self._plan, self._results = plan, results
        self._connection = Connection()
        # Apart: an artifact store that refuses says nothing about the server, whose runs are still to be closed.
        self._uploads = Connection()
        self._results_id = results_id(Files(f"{results.rstrip('/')}/{plan.study.name}"))
        self._client: Any = None
        self._experiment = self._parent = ""
        self._runs: dict[str, str] = {}
        """Run by model key."""
        self._done: set[str] = set()
        """Runs that are finished and lack nothing."""
        self._with_files: set[str] = set()
        self._open_runs: set[str] = set()
        self._steps: dict[str, set[int]] = {}
        """Epochs that MLflow has, by run."""
        self._stages: dict[str, float] = {}
        """Seconds by stage, not recorded yet."""
        self._try(lambda: None)

    @property
    def problem(self) -> str | None:
        """In a line: which part of MLflow refused, and why; None where none did."""
        refused = (
            ("its runs have a gap", self._connection.problem),
            ("its artifact store refused files, the runs have everything else", self._uploads.problem),
        )
        told = [f"{what}: {why}" for what, why in refused if why]
        return redacted(f"MLflow at {self.uri}: {'; '.join(told)}") if told else None

    def start_models(self, models: Sequence[Model]) -> dict[str, str]:
        """Run id of each model's child run, by model id; models are absent where the server is away."""
        started = {}
        for model in models:
            run_id = self._try(functools.partial(self._start, model))
            if run_id is not None:
                started[model.id] = run_id
        return started

    def epochs(self, run_id: str, rows: Rows, time_ms: int) -> None:
        """Record rows of the table `epochs` of one model; an epoch that is recorded already is not repeated."""
        self._try(lambda: self._log_epochs(run_id, rows, time_ms))

    def finish_model(self, run_id: str, accuracies: Mapping[str, float], epochs: int) -> None:
        """Close a model's run with its final accuracies, unless some of its `epochs` are still to be caught up."""
        if len(self._steps.get(run_id, ())) == epochs:
            self._try(lambda: self._finish(run_id, accuracies))

    def stage_done(self, stage: str, units: int, seconds: float) -> None:
        """Record how long a stage took that stored `units`; a stage that had nothing to do is not recorded."""
        if units:
            self._stages[stage] = seconds
            self._try(self._log_stages)

    def catch_up(
        self, models: Sequence[Model], history: Callable[[str], tuple[Rows, Mapping[str, float]]]
    ) -> None:
        """Tell MLflow what it lacks of stored `models`, after a kill or while the server was away.

        `history` gives a model's rows of the table `epochs` and its accuracies; only steps that MLflow lacks
        are sent. Worth waiting for: a server that does not answer is asked again for some seconds.
        """

        def bring_up() -> None:
            self._opened()
            for model in models:
                if self._runs.get(model.key, "") in self._done:
                    continue
                run_id = self._start(model)
                rows, accuracies = history(model.id)
                self._log_epochs(run_id, rows, int(time.time() * 1000))
                self._finish(run_id, accuracies)
            self._log_stages()

        self._connection.insist(bring_up)

    def attach_to_models(
        self, files_of: Callable[[Model], Mapping[str, bytes]], sha256: Mapping[str, str]
    ) -> None:
        """Attach files to the runs of the first RUNS_WITH_FILES models that have none yet.

        `files_of` makes a model's files by path; the readout's weights are READOUT. `sha256` gives the weights' digest
        by model id, which all runs are tagged with.
        """

        def attach(position: int, model: Model) -> None:
            run_id = self._runs.get(model.key)
            if run_id is not None and run_id not in self._with_files:
                files = files_of(model) if position < RUNS_WITH_FILES else {}
                address = self._address(model)
                place = READOUT if files else address
                self._attach(
                    run_id, files, {SHA256_TAG: sha256[model.id], ADDRESS_TAG: address, FILES_TAG: place}
                )
                self._with_files.add(run_id)

        stored = [model for model in self._plan.models if model.id in sha256]
        for position, model in enumerate(stored):
            self._upload(functools.partial(attach, position, model))

    def finish_study(self, files: Mapping[str, bytes], tables: Mapping[str, TableIdentity]) -> None:
        """Attach a finished study's `files` (by path) to its run, and what identifies it and its tables."""
        tags = {
            f"sweep.table.{name}": f"{identity.rows} rows, {identity.sha256}"
            for name, identity in tables.items()
        }
        everything = {**files, **study_files(self._plan, tables)}
        self._try(lambda: self._tag(self._parent, tags))
        self._upload(lambda: self._attach(self._parent, everything, {}))

    def close(self, status: str) -> None:
        """Close the parent run, and as KILLED (or FAILED) every child run that is still open."""

        def close() -> None:
            for run_id in sorted(self._open_runs):
                self._client.set_terminated(run_id, FAILED if status == FAILED else KILLED)
            self._client.set_terminated(self._parent, status)

        self._connection.be_ready()  # a run that is not closed now stays open for good
        self._try(close)

    def _upload(self, call: Callable[[], None]) -> None:
        """Send files, unless the server itself is away."""
        if self._parent:
            self._uploads.attempt(call)

    def _try(self, call: Callable[[], Answer]) -> Answer | None:
        def opened() -> Answer:
            self._opened()
            return call()

        return self._connection.attempt(opened)

    def _opened(self) -> None:
        """Connect, unless it is done; what a failure left half-way is found again by its tags."""
        if self._parent:
            return
        from mlflow import MlflowClient

        for name in ("mlflow", "mlflow.store.db.utils", "alembic"):  # MLflow sets their levels when imported
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("urllib3.connectionpool").setLevel(
            logging.ERROR
        )  # what it warns of, we report once
        if self.uri.startswith("sqlite:///"):
            Path(unquote(self.uri.removeprefix("sqlite:///"))).parent.mkdir(parents=True, exist_ok=True)
        place = artifact_root(self.uri, self._results)
        self._client = MlflowClient(self.uri)
        name = self._plan.study.name
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            raise RefusedError(
                f"the experiment '{name}' was deleted; restore it with: mlflow experiments restore --experiment-id "
                f"{experiment.experiment_id}, or name the study otherwise"
            )
        if experiment is None:
            self._experiment = self._client.create_experiment(name, artifact_location=place)
        else:
            self._experiment = experiment.experiment_id
        parent = ""
        for run in self._search(f"tags.`{STUDY_TAG}` != ''"):
            run_id, tags = run.info.run_id, run.data.tags
            if not is_own(tags, self._results_id, beside=self.uri == default_uri(self._results)):
                continue
            if MODEL_TAG not in tags:
                parent = run_id
                continue
            self._runs[tags[MODEL_TAG]] = run_id
            self._done |= {run_id} if run.info.status == FINISHED else set()
            self._with_files |= {run_id} if FILES_TAG in tags else set()
        if parent:
            self._client.update_run(parent, status="RUNNING")
        else:
            parent = self._client.create_run(
                self._experiment, tags={STUDY_TAG: name, RESULTS_TAG: self._results_id}, run_name=name
            ).info.run_id
        self._tag(parent, study_tags(self._plan))
        self._client.log_inputs(parent, [dataset_input(self._plan)])
        self._parent = parent

    def _start(self, model: Model) -> str:
        from mlflow.entities import Param

        run_id = self._runs.get(model.key)
        if run_id is None:
            tags = {
                STUDY_TAG: self._plan.study.name,
                RESULTS_TAG: self._results_id,
                MODEL_TAG: model.key,
                PARENT_TAG: self._parent,
            }
            run_id = str(self._client.create_run(self._experiment, tags=tags, run_name=model.id).info.run_id)
            self._runs[model.key] = run_id
            self._steps[run_id] = set()
        else:
            self._client.update_run(run_id, status="RUNNING")
            known = self._client.get_metric_history(run_id, "val_accuracy")
            self._steps[run_id] = {metric.step for metric in known}
        self._open_runs.add(run_id)
        parameters = [Param(name, value) for name, value in model_parameters(model).items()]
        self._client.log_batch(run_id, params=parameters)
        return run_id

    def _log_epochs(self, run_id: str, rows: Rows, time_ms: int) -> None:
        known = self._steps.setdefault(run_id, set())
        missing = [row for row in rows if row["epoch"] not in known]
        metrics = epoch_metrics(missing, time_ms)
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        known |= {int(row["epoch"]) for row in missing}

    def _finish(self, run_id: str, accuracies: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        final = [Metric(f"final_{name}", value, now, 0) for name, value in accuracies.items()]
        self._client.log_batch(run_id, metrics=final)
        self._client.set_terminated(run_id, FINISHED)
        self._open_runs.discard(run_id)
        self._done.add(run_id)

    def _log_stages(self) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        seconds = [Metric(f"stage_seconds.{stage}", value, now, 0) for stage, value in self._stages.items()]
        if seconds:
            self._client.log_batch(self._parent, metrics=seconds)
            self._stages.clear()

    def _attach(self, run_id: str, files: Mapping[str, bytes], tags: Mapping[str, str]) -> None:
        if files:
            with tempfile.TemporaryDirectory() as folder:
                for path, content in files.items():
                    local = Path(folder) / path
                    local.parent.mkdir(parents=True, exist_ok=True)
                    local.write_bytes(content)
                self._client.log_artifacts(run_id, folder)
        self._tag(run_id, tags)

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def _address(self, model: Model) -> str:
        root = self._results.rstrip("/")
        root = root if "://" in root else str(Path(root).resolve())
        return f"{root}/{self._plan.study.name}/weights/{model.id}.{model.key}.npz"

    def _search(self, condition: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=1000, page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return found
