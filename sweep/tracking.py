"""MLflow: one parent run per study and one child run per model, found again by tag when a study resumes.

Nothing else in the package talks to MLflow. A tracking server that does not answer costs the history, never
the study: the tables hold everything that matters.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep import __version__
from sweep.plan import Model, Plan

STUDY_TAG, MODEL_TAG, PARENT_TAG = "sweep.study", "sweep.model_key", "mlflow.parentRunId"
Rows = Sequence[Mapping[str, float]]
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"


def tracking_uri(results: str) -> str:
    """`MLFLOW_TRACKING_URI` where it is set, otherwise an SQLite file under a local results root."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    folder = Path.cwd() if "://" in results else Path(results).resolve()
    return f"sqlite:///{folder}/mlflow.db"


class Tracker:
    """The runs of one study. Every method does nothing once the tracking server has failed to answer."""

    def __init__(self, plan: Plan, results: str) -> None:
        """Open the study's experiment and its parent run, creating what does not exist yet."""
        self.uri = tracking_uri(results)
        self.problem: str | None = None
        """Why tracking stopped, or None."""
        self._open_models: set[str] = set()
        self._runs: dict[str, str] = {}
        self._finished: dict[str, bool] = {}
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._study, self._parent = plan.study.name, ""
        self._guard(lambda: self._open(plan, results))

    def start_models(self, models: Sequence[Model]) -> dict[str, str]:
        """Run id of each model's child run, by model id; empty where tracking is off."""
        return self._guard(lambda: {model.id: self._start(model) for model in models}) or {}

    def epochs(self, run_id: str, rows: Rows, time_ms: int) -> None:
        """Record rows of the table `epochs` of one model in one request."""
        from mlflow.entities import Metric

        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        batch = [Metric(name, row[name], time_ms, int(row["epoch"])) for row in rows for name in names]
        self._guard(lambda: self._client.log_batch(run_id, metrics=batch))

    def finish_model(self, run_id: str, accuracies: Mapping[str, float]) -> None:
        """Record a model's final accuracies and close its run."""
        self._guard(lambda: self._finish(run_id, accuracies))

    def catch_up(
        self, models: Sequence[Model], history: Callable[[str], tuple[Rows, Mapping[str, float]]]
    ) -> None:
        """Finish the runs of stored `models` that a kill or a lost server left open or never saw.

        `history` gives a model's rows of the table `epochs` and its accuracies; only steps that MLflow lacks
        are sent.
        """

        def bring_up() -> None:
            for model in models:
                if self._finished.get(self._runs.get(model.key, "")):
                    continue
                run_id = self._start(model)
                rows, accuracies = history(model.id)
                known = {metric.step for metric in self._client.get_metric_history(run_id, "val_accuracy")}
                missing = [row for row in rows if row["epoch"] not in known]
                if missing:
                    self.epochs(run_id, missing, int(time.time() * 1000))
                self._finish(run_id, accuracies)

        self._guard(bring_up)

    def artifacts(self, files: Mapping[str, bytes]) -> None:
        """Attach files, by their path, to the parent run."""

        def attach() -> None:
            with tempfile.TemporaryDirectory() as folder:
                for path, content in files.items():
                    local = Path(folder) / path
                    local.parent.mkdir(parents=True, exist_ok=True)
                    local.write_bytes(content)
                self._client.log_artifacts(self._parent, folder)

        self._guard(attach)

    def summary(self, rows: Mapping[str, int], address: str) -> None:
        """Record where the tables are and how many rows each has."""

        def record() -> None:
            self._client.log_dict(self._parent, {"address": address, "rows": dict(rows)}, "tables.json")

        self._guard(record)

    def close(self, status: str) -> None:
        """Close the parent run, and as KILLED every child run that is still open."""

        def close() -> None:
            for run_id in sorted(self._open_models):
                self._client.set_terminated(run_id, FAILED if status == FAILED else KILLED)
            self._client.set_terminated(self._parent, status)

        self._guard(close)

    def _open(self, plan: Plan, results: str) -> None:
        from mlflow import MlflowClient

        for name in ("mlflow", "mlflow.store.db.utils", "alembic"):  # MLflow sets their levels when imported
            logging.getLogger(name).setLevel(logging.WARNING)
        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(self.uri)
        name = self._study
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            local = self.uri.startswith("sqlite:///") and "://" not in results
            place = (Path(results).resolve() / "mlflow-artifacts").as_uri() if local else None
            self._experiment = self._client.create_experiment(name, artifact_location=place)
        else:
            self._experiment = experiment.experiment_id
        for run in self._search(f"tags.`{STUDY_TAG}` != ''"):
            if MODEL_TAG in run.data.tags:
                self._runs[run.data.tags[MODEL_TAG]] = run.info.run_id
                self._finished[run.info.run_id] = run.info.status == FINISHED
            else:
                self._parent = run.info.run_id
        if self._parent:
            self._client.update_run(self._parent, status="RUNNING")
        else:
            tags = {
                STUDY_TAG: name,
                "sweep.version": __version__,
                "mlflow.source.name": "sweep run",
            }
            self._parent = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
        self._client.set_tag(self._parent, "sweep.study_key", plan.key)
        self._client.log_artifact(self._parent, str(plan.path), "study")

    def _start(self, model: Model) -> str:
        cell = model.cell
        run_id = self._runs.get(model.key)
        if run_id is None:
            tags = {STUDY_TAG: self._study, MODEL_TAG: model.key, PARENT_TAG: self._parent}
            run_id = self._client.create_run(self._experiment, tags=tags, run_name=model.id).info.run_id
            parameters = {
                "pretraining": cell.pretraining, "task": cell.task, "seed": cell.seed, **cell.extra,
                "n_classes": len(model.classes), **cell.finetune.model_dump(),
            }  # fmt: skip
            self._log_parameters(run_id, parameters)
            self._runs[model.key] = run_id
        else:
            self._client.update_run(run_id, status="RUNNING")
        self._open_models.add(run_id)
        return run_id

    def _finish(self, run_id: str, accuracies: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        final = [Metric(f"final_{name}", value, now, 0) for name, value in accuracies.items()]
        self._client.log_batch(run_id, metrics=final)
        self._client.set_terminated(run_id, FINISHED)
        self._open_models.discard(run_id)
        self._finished[run_id] = True

    def _log_parameters(self, run_id: str, parameters: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])

    def _search(self, condition: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=1000, page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return found

    def _guard(self, call: Any) -> Any:
        """Run `call` unless tracking has failed; the first failure turns tracking off and is kept for the user."""
        if self.problem is not None:
            return None
        try:
            return call()
        except Exception as error:
            self.problem = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
            return None
