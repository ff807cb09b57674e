"""A finished model as an MLflow Model: files by path, beside the other files of the model's run."""

import json
import logging
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sweep import __version__
from sweep.plan import Model, Plan
from sweep.serving.classifier import description_of

FOLDER = "model"
"""Where the MLflow Model is among a run's artifacts."""
CODE = Path(__file__).with_name("served.py")
"""The code that MLflow copies into every model and runs when it loads one."""


def logged_model(plan: Plan, model: Model, readout: bytes) -> Mapping[str, bytes]:
    """The files of an MLflow Model (pyfunc): its code, the readout, and a description that names the backbone.

    The backbone's weights are not among them: they stay where the study has them. An example image is a grey ramp, so
    that no picture of a person is copied.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about hints in MLflow's own classes
        import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    size = plan.study.dataset.input_size
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    example = np.broadcast_to(ramp[None, None, :, None], (1, size, size, 3)).copy()
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size, 3))]),
        params=ParamSchema([ParamSpec("relevance", "boolean", False)]),
    )
    with tempfile.TemporaryDirectory() as temporary:
        files = {
            "readout": Path(temporary, "readout.npz"),
            "description": Path(temporary, "description.json"),
        }
        files["readout"].write_bytes(readout)
        files["description"].write_bytes(description_of(plan, model))
        level = logging.getLogger("mlflow.pyfunc").level
        logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # a line per model otherwise
        try:
            mlflow.pyfunc.save_model(
                f"{temporary}/{FOLDER}",
                python_model=str(CODE),
                artifacts={name: str(path) for name, path in files.items()},
                signature=signature,
                input_example=example,
                pip_requirements=[f"relevance-sweep=={__version__}"],
            )
        finally:
            logging.getLogger("mlflow.pyfunc").setLevel(level)
        whole = Path(temporary, FOLDER)
        served = whole / "serving_input_example.json"
        # MLflow indents it, so that each value takes 20 bytes.
        served.write_text(json.dumps(json.loads(served.read_text()), separators=(",", ":")))
        return {
            f"{FOLDER}/{path.relative_to(whole).as_posix()}": path.read_bytes()
            for path in sorted(whole.rglob("*"))
            if path.is_file()
        }
