"""A finished model's readout, out of its MLflow run."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import InputError, WorkError
from sweep.tracking.connection import shorten_patience
from sweep.tracking.database import check_database
from sweep.tracking.faults import fault_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from sweep.numerics.head import Head
    from sweep.numerics.readout import Readout

READOUT = "readout.npz"
"""The weights among a run's artifacts."""
SHA256_TAG, ADDRESS_TAG = "sweep.weights_sha256", "sweep.weights"
"""The weights' digest, and where the store has them."""


def load_readout(run_id: str, uri: str | None = None) -> "Readout | Head":
    """The readout of a finished model, from its MLflow run's artifacts or, where those lack it, from the store.

    `uri` is the tracking server's, by default MLFLOW_TRACKING_URI. The weights are those of the study: on the same
    features they give the same logits. Raises InputError where the server cannot be asked, the run cannot be found or
    is no finished model's, and WorkError where the weights are gone or not those that were recorded.
    """
    from mlflow import MlflowClient

    from sweep.numerics.head import trained_of

    server = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        raise InputError("load_readout: name the tracking server by `uri` or MLFLOW_TRACKING_URI")
    shorten_patience()
    try:
        check_database(server)
        client = MlflowClient(server)
        tags = client.get_run(run_id).data.tags
    except Exception as error:
        if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            raise InputError(f"run {run_id}: not found at {server}; look up its id there") from None
        raise InputError(f"run {run_id}: MLflow at {server}: {fault_of(error, server).line}") from None
    if SHA256_TAG not in tags:
        raise InputError(f"run {run_id}: has no readout; it is no finished model's run")
    try:
        content = _attached(client, run_id)
    except Exception as error:
        raise WorkError(f"run {run_id}: its files cannot be had: {fault_of(error, server).line}") from None
    if content is None:
        content = _stored(tags[ADDRESS_TAG])
    found = hashlib.sha256(content).hexdigest()
    if found != tags[SHA256_TAG]:
        raise WorkError(f"run {run_id}: its weights have SHA-256 {found}, recorded was {tags[SHA256_TAG]}")
    return trained_of(content)


def _attached(client: "MlflowClient", run_id: str) -> bytes | None:
    if not any(item.path == READOUT for item in client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, READOUT, folder)).read_bytes()


def _stored(address: str) -> bytes:
    from sweep.storage.store import Store

    root, _, name = address.rpartition("/weights/")
    return Store(root).read_file(f"weights/{name}")
