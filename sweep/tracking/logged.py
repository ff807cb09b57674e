"""A finished model as an MLflow Model: files by path, beside the other files of the model's run."""

import functools
import json
import logging
import tempfile
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from sweep import __version__
from sweep.plan import Model, Plan
from sweep.serving.classifier import description_of

FOLDER = "model"
"""Where the MLflow Model is among a run's artifacts."""
CODE = Path(__file__).with_name("served.py")
"""The code that MLflow copies into every model and runs when it loads one."""
TOLD, READOUT, DESCRIPTION = "MLmodel", "artifacts/readout.npz", "artifacts/description.json"
"""What differs from model to model, inside the folder."""


def logged_model(plan: Plan, model: Model, readout: bytes) -> Mapping[str, bytes]:
    """The files of an MLflow Model (pyfunc): its code, the readout, and a description that names the backbone.

    The backbone's weights are not among them: they stay where the study has them. An example image is a grey ramp, so
    that no picture of a person is copied.
    """
    files = {**_empty_model(plan.study.dataset.input_size)}
    files |= {READOUT: readout, DESCRIPTION: description_of(plan, model)}
    told = yaml.safe_load(files[TOLD])
    told |= {"model_uuid": uuid.uuid4().hex, "model_size_bytes": sum(map(len, files.values()))}
    files[TOLD] = yaml.safe_dump(told).encode()
    return {f"{FOLDER}/{path}": content for path, content in files.items()}


@functools.cache
def _empty_model(size: int) -> Mapping[str, bytes]:
    """What all models for images of a size share; MLflow takes seconds to write the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about hints in MLflow's own classes
        import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    ramp = np.linspace(0, 255, size).astype(np.uint8)
    example = np.broadcast_to(ramp[None, None, :, None], (1, size, size, 3)).copy()
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size, 3))]),
        params=ParamSchema([ParamSpec("relevance", "boolean", False)]),
    )
    with tempfile.TemporaryDirectory() as temporary:
        artifacts = {
            "readout": Path(temporary, READOUT).name,
            "description": Path(temporary, DESCRIPTION).name,
        }
        for name in artifacts.values():
            Path(temporary, name).touch()
        whole = Path(temporary, FOLDER)
        logger = logging.getLogger("mlflow.pyfunc")
        level = logger.level
        logger.setLevel(logging.WARNING)  # it tells that it looks at the example
        try:
            mlflow.pyfunc.save_model(
                str(whole),
                python_model=str(CODE),
                artifacts={key: f"{temporary}/{name}" for key, name in artifacts.items()},
                signature=signature,
                input_example=example,
                pip_requirements=[f"relevance-sweep=={__version__}"],
            )
        finally:
            logger.setLevel(level)
        served = whole / "serving_input_example.json"
        # MLflow indents it, so that each value takes 20 bytes.
        served.write_text(json.dumps(json.loads(served.read_text()), separators=(",", ":")))
        return {
            path.relative_to(whole).as_posix(): path.read_bytes()
            for path in sorted(whole.rglob("*"))
            if path.is_file()
        }
