"""What is found of a finished study later, a check of its maps or the answers of people, added to its run."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from sweep.plan import Plan
from sweep.storage.files import Files
from sweep.tracking.connection import Connection, artifact_root, default_uri, tracking_uri
from sweep.tracking.database import check_database
from sweep.tracking.faults import RefusedError
from sweep.tracking.identity import is_own, results_id
from sweep.tracking.study_runs import MODEL_TAG, STUDY_TAG


def log_verification(plan: Plan, results: str, metrics: Mapping[str, float]) -> str | None:
    """Record `metrics` under verification.* in the study's parent run, whose status stays as it is.

    Returns why that was not possible, or None.
    """
    return _add(plan, results, "verification", metrics, {})


def log_people(
    plan: Plan, results: str, metrics: Mapping[str, float], files: Mapping[str, bytes]
) -> str | None:
    """Record what people prefer: `metrics` under human.*, and `files` by path, as `log_verification` does it."""
    return _add(plan, results, "human", metrics, files)


def _add(
    plan: Plan, results: str, prefix: str, metrics: Mapping[str, float], files: Mapping[str, bytes]
) -> str | None:
    connection = Connection(tracking_uri(results))
    connection.attempt(lambda: _log(plan, results, prefix, metrics, files))
    return connection.fault.line if connection.fault else None


def _log(
    plan: Plan, results: str, prefix: str, metrics: Mapping[str, float], files: Mapping[str, bytes]
) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    uri = tracking_uri(results)
    check_database(uri)
    artifact_root(uri, results)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(plan.study.name)
    runs = client.search_runs([experiment.experiment_id], f"tags.`{STUDY_TAG}` != ''") if experiment else []
    own, beside = results_id(Files(f"{results.rstrip('/')}/{plan.study.name}")), uri == default_uri(results)
    parents = [run for run in runs if MODEL_TAG not in run.data.tags and is_own(run.data.tags, own, beside)]
    if not parents:
        raise RefusedError(f"no run of these results of the study {plan.study.name}; run the study again")
    run_id = parents[0].info.run_id
    now = int(time.time() * 1000)
    logged = [Metric(f"{prefix}.{name}", value, now, 0) for name, value in metrics.items()]
    client.log_batch(run_id, metrics=logged)
    if files:
        with tempfile.TemporaryDirectory() as folder:
            for path, content in files.items():
                local = Path(folder, path)
                local.parent.mkdir(parents=True, exist_ok=True)
                local.write_bytes(content)
            client.log_artifacts(run_id, folder)
