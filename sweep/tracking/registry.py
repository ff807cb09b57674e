"""Registers the models of a finished study in MLflow's model registry, under the study's name."""

import re
from typing import Any

from sweep.errors import WorkError
from sweep.plan import Plan
from sweep.storage.files import Files
from sweep.tracking.connection import artifact_root, default_uri, shorten_patience, tracking_uri
from sweep.tracking.database import check_database
from sweep.tracking.faults import fault_of
from sweep.tracking.identity import is_own, results_id
from sweep.tracking.logged import FOLDER
from sweep.tracking.study_runs import MODEL_TAG, STUDY_TAG

NOT_IN_ALIASES = re.compile(r"[^A-Za-z0-9_-]")
"""What MLflow does not take in an alias."""


def alias_of(model_id: str) -> str:
    """The alias under which a model is found: its id, with '_' for what MLflow does not take."""
    return NOT_IN_ALIASES.sub("_", model_id)


def register_models(plan: Plan, results: str) -> dict[str, str]:
    """Register every model of a study whose run has an MLflow Model, and return the versions by model id.

    A model that is registered already keeps its version. The registered model has the study's name; each version has the
    model's id as alias and tag. Raises WorkError where MLflow refuses, or where no run has a model.
    """
    from mlflow import MlflowClient

    uri = tracking_uri(results)
    shorten_patience()
    try:
        check_database(uri)
        artifact_root(uri, results)
        client = MlflowClient(uri)
        runs = _runs(client, plan, results, beside=uri == default_uri(results))
        with_models = {name: run for name, run in runs.items() if client.list_artifacts(run, FOLDER)}
        versions = _register(client, plan.study.name, with_models) if with_models else {}
    except Exception as error:
        raise WorkError(f"MLflow at {uri}: {fault_of(error, uri).line}") from None
    if not versions:
        raise WorkError(
            f"{plan.study.name}: no run in MLflow at {uri} has a model; run the study with: sweep run {plan.path}"
        )
    return versions


def _runs(client: Any, plan: Plan, results: str, beside: bool) -> dict[str, str]:
    """Finished runs of the study's models, by model id."""
    experiment = client.get_experiment_by_name(plan.study.name)
    if experiment is None:
        return {}
    own = results_id(Files(f"{results.rstrip('/')}/{plan.study.name}"))
    ids = {model.key: model.id for model in plan.models}
    found: dict[str, str] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment.experiment_id], f"tags.`{STUDY_TAG}` != ''", max_results=1000, page_token=token
        )
        for run in page:
            key = run.data.tags.get(MODEL_TAG)
            if key in ids and is_own(run.data.tags, own, beside):
                found[ids[key]] = run.info.run_id
        token = page.token
        if not token:
            return {name: found[name] for name in ids.values() if name in found}


def _register(client: Any, name: str, runs: dict[str, str]) -> dict[str, str]:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    known = {version.run_id: version.version for version in client.search_model_versions(f"name = '{name}'")}
    versions = {}
    for model_id, run_id in runs.items():
        version = known.get(run_id)
        if version is None:
            source = f"runs:/{run_id}/{FOLDER}"
            version = client.create_model_version(name, source, run_id, {"sweep.model": model_id}).version
        client.set_registered_model_alias(name, alias_of(model_id), str(version))
        versions[model_id] = str(version)
    return versions
