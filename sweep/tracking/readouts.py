"""A finished model's readout, out of its MLflow run."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import InputError, WorkError

if TYPE_CHECKING:
    from sweep.numerics.readout import Readout

READOUT = "readout.npz"
"""The weights among a run's artifacts."""
SHA256_TAG, ADDRESS_TAG = "sweep.weights_sha256", "sweep.weights"
"""The weights' digest, and where the store has them."""


def load_readout(run_id: str, uri: str | None = None) -> "Readout":
    """The readout of a finished model, from its MLflow run's artifacts or, where those lack it, from the store.

    `uri` is the tracking server's, by default MLFLOW_TRACKING_URI. The weights are those of the study: on the same
    features they give the same logits. Raises InputError where the run cannot be found or is no finished model's, and
    WorkError where the weights are gone or not those that were recorded.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from sweep.numerics.readout import Readout

    server = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        raise InputError("load_readout: name the tracking server by `uri` or MLFLOW_TRACKING_URI")
    client = MlflowClient(server)
    try:
        tags = client.get_run(run_id).data.tags
    except MlflowException as error:
        raise InputError(f"run {run_id}: not found at {server}: {str(error).splitlines()[0]}") from None
    if SHA256_TAG not in tags:
        raise InputError(f"run {run_id}: has no readout; it is no finished model's run")
    if any(item.path == READOUT for item in client.list_artifacts(run_id)):
        with tempfile.TemporaryDirectory() as folder:
            content = Path(client.download_artifacts(run_id, READOUT, folder)).read_bytes()
    else:
        content = _stored(tags[ADDRESS_TAG])
    found = hashlib.sha256(content).hexdigest()
    if found != tags[SHA256_TAG]:
        raise WorkError(f"run {run_id}: its weights have SHA-256 {found}, recorded was {tags[SHA256_TAG]}")
    return Readout.from_bytes(content)


def _stored(address: str) -> bytes:
    from sweep.storage.store import Store

    root, _, name = address.rpartition("/weights/")
    return Store(root).read_file(f"weights/{name}")
