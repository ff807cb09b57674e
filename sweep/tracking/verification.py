"""What a check of a finished study found, added to its run."""

import time
from collections.abc import Mapping

from sweep.errors import WorkError
from sweep.plan import Plan
from sweep.tracking.connection import Connection, artifact_root, tracking_uri
from sweep.tracking.tracker import MODEL_TAG, STUDY_TAG


def log_verification(plan: Plan, results: str, metrics: Mapping[str, float]) -> str | None:
    """Record `metrics` under verification.* in the study's parent run, whose status stays as it is.

    Returns why that was not possible, or None.
    """
    connection = Connection()
    connection.attempt(lambda: _log(plan, results, metrics))
    return connection.problem


def _log(plan: Plan, results: str, metrics: Mapping[str, float]) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    uri = tracking_uri(results)
    artifact_root(uri, results)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(plan.study.name)
    runs = client.search_runs([experiment.experiment_id], f"tags.`{STUDY_TAG}` != ''") if experiment else []
    parents = [run for run in runs if MODEL_TAG not in run.data.tags]
    if not parents:
        raise WorkError(f"no run of the study {plan.study.name}")
    now = int(time.time() * 1000)
    logged = [Metric(f"verification.{name}", value, now, 0) for name, value in metrics.items()]
    client.log_batch(parents[0].info.run_id, metrics=logged)
