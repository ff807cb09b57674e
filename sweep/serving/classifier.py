"""A finetuned model that answers for images: the backbone that its weights' address names, and its readout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sweep.arrays import Array
from sweep.errors import InputError
from sweep.models.weights import file_of_weights, open_weights
from sweep.plan import Backbone, Model, Plan, key_of_backbone
from sweep.study import Pretraining


def description_of(plan: Plan, model: Model) -> bytes:
    """What `Classifier` needs of a model besides its readout, as JSON: of the backbone the address and a hash, no weights."""
    study = plan.study
    pretraining, before = study.backbones()[model.backbone]
    address = pretraining.weights
    if file := file_of_weights(pretraining):
        # From the study file's folder, wherever the model is loaded.
        address = f"{address.partition(':')[0]}:{(plan.path.parent / file).resolve()}"
    content = {
        "model_id": model.id,
        "classes": model.classes,
        "input_size": study.dataset.input_size,
        "pretraining": {**pretraining.model_dump(mode="json"), "weights": address},
        "before": before,
        "convolutions": study.convolutions,
        "backbone_key": plan.backbones[model.backbone].key,
        "composite": study.relevance.composite,
        "bias": study.relevance.bias,
    }
    return json.dumps(content, indent=1).encode()


class Classifier:
    """A finetuned model, loaded whole."""

    def __init__(self, description: bytes, readout: bytes) -> None:
        """Load the backbone that `description` names (see `description_of`), and the weights `readout`.

        Raises InputError where the backbone's weights are not there, or not those that the model was trained on.
        """
        from sweep.numerics.evaluation import Evaluator
        from sweep.numerics.head import layers_of, trained_of

        self._settings: Mapping[str, Any] = json.loads(description)
        self._size = int(self._settings["input_size"])
        self._classes = np.asarray(self._settings["classes"])
        pretraining = Pretraining.model_validate(self._settings["pretraining"])
        weights = open_weights(pretraining, Path(), str(self._settings["model_id"]))
        before = self._settings.get("before")
        key = key_of_backbone(weights, self._size, self._settings["convolutions"], before)
        if key != self._settings["backbone_key"]:
            raise InputError(
                f"model {self._settings['model_id']}: the weights at {pretraining.weights} are not those that it was trained "
                "on; bring those back"
            )
        self._preprocessing = weights.preprocessing
        self._network = Backbone(str(self._settings["model_id"]), "", weights, key, before).network(
            self._size
        )
        self._evaluator = Evaluator(self._network, self._settings["convolutions"])
        self._readout = trained_of(readout)
        self._head = layers_of(self._readout)

    def predict(self, images: Array) -> tuple[Array, Array]:
        """The class with the highest logit (image,), and all logits (image, class), of `images`.

        Images are RGB, uint8 (image, size, size, 3), at the size of the study. Raises InputError for others, and for images
        that the network makes no finite number of.
        """
        logits = self._readout.logits(self._evaluator.features(self._inputs(images)).numpy())
        if not np.isfinite(logits).all():
            raise InputError(f"model {self._settings['model_id']}: its logits of an image are not finite")
        return self._classes[logits.argmax(axis=1)], logits

    def relevance(self, images: Array) -> Array:
        """Relevance of the pixels for the predicted class, float32 (image, height, width), each from -1 to 1.

        The composite is the study's; a map is divided by its largest absolute value, as in the table `relevance`.
        """
        from sweep.lrp import shared_relevance

        (maps,) = shared_relevance(
            self._network,
            [self._head],
            self._inputs(images),
            "predicted",
            composite=self._settings["composite"],
            bias=self._settings["bias"],
            bounds=self._preprocessing.bounds,
        )
        peaks = np.abs(maps).max(axis=(1, 2))
        normalised: Array = maps / np.where(peaks > 0, peaks, 1)[:, None, None]
        return normalised

    def _inputs(self, images: Array) -> Array:
        expected = (self._size, self._size, 3)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise InputError(
                f"images: have the shape {tuple(images.shape)}, and the model takes (image, {', '.join(map(str, expected))})"
            )
        if images.dtype != np.uint8:  # grey levels from 0 to 1 would look like black
            raise InputError(
                f"images: are {images.dtype}; the model takes grey levels from 0 to 255 as uint8"
            )
        return self._preprocessing(images)
