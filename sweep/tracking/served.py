"""The code of a logged model, which MLflow runs when it loads one: an image in, its class and on request a map out.

MLflow copies this file beside each model and imports it from there. Nothing is unpickled.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd


class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]
    """A finetuned model of a study."""

    def load_context(self, context: Any) -> None:
        """Load the readout from the model's files, and the backbone from the address that they name."""
        from sweep.serving.classifier import Classifier

        files = {name: Path(path).read_bytes() for name, path in context.artifacts.items()}
        self._classifier = Classifier(files["description"], files["readout"])

    def predict(
        self,
        context: Any,
        model_input: np.ndarray,  # MLflow warns of other hints
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """A row per image: class, logit, and with `params={"relevance": True}` the map as rows of pixels.

        `model_input` is uint8 RGB (image, size, size, 3).
        """
        classes, logits = self._classifier.predict(model_input)
        rows = {"class": classes.astype(object), "logit": logits.max(axis=1).astype(np.float64)}
        if (params or {}).get("relevance"):
            rows["relevance"] = self._classifier.relevance(model_input).tolist()
        return pd.DataFrame(rows)


mlflow.models.set_model(ServedModel())
