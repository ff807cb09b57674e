"""Finetuning ten readouts on one backbone: this package against Keras' `fit` through the frozen backbone.

    python benchmarks/finetuning.py [--size 112] [--images 128] [--json out.json]

Ours computes the features once and trains every readout on them, all epochs of all models measured. Keras passes every
image through the backbone in every epoch of every model; an epoch costs the same each time, so its side is the median of
some epochs times their number. Both leave compilation out.
"""

import os
import statistics
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks.common import CAFFE, command_line, face_pixels, seconds, tell, vgg16_layers
from sweep.models.network import backbone_network, keras_model
from sweep.numerics.evaluation import Evaluator
from sweep.numerics.readout import Examples, ReadoutTraining
from sweep.study import Finetune

EPOCHS, CLASSES = 25, 101


def measure(size: int, n_images: int, n_models: int, rounds: int) -> dict[str, Any]:
    """Seconds of both ways for `n_models` models of 25 epochs."""
    import keras

    layers = vgg16_layers()
    inputs = CAFFE(face_pixels(n_images, size))
    labels = np.arange(n_images) % CLASSES
    held = np.zeros(n_images, bool)
    held[:: max(n_images // 8, 1)] = True
    evaluator = Evaluator(backbone_network(layers, size))

    def ours() -> None:
        features = evaluator.features(inputs).numpy()
        for index in range(n_models):
            training = ReadoutTraining(
                Examples(features, labels, held), CLASSES, Finetune(epochs=EPOCHS), f"model {index}"
            )
            for _ in range(EPOCHS):
                training.epoch()
            training.readout()

    n_features = (size // 32) ** 2 * 512
    model = keras_model(layers, size, np.zeros((n_features, CLASSES)), np.zeros(CLASSES))
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.compile(
        keras.optimizers.Adam(0.001),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def epoch() -> None:
        model.fit(
            inputs[~held],
            labels[~held],
            batch_size=32,
            validation_data=(inputs[held], labels[held]),
            verbose=0,
        )

    ours()
    epoch()
    epochs, wholes = [], []
    for _ in range(rounds):
        wholes.append(seconds(ours))
        epochs += [seconds(epoch), seconds(epoch)]
    keras_seconds = statistics.median(epochs) * EPOCHS * n_models
    return {
        "size": size,
        "images": n_images,
        "models": n_models,
        "epochs": EPOCHS,
        "ours_seconds": statistics.median(wholes),
        "keras_seconds_per_epoch": statistics.median(epochs),
        "keras_seconds": keras_seconds,
        "speedup": keras_seconds / statistics.median(wholes),
    }


def main() -> None:
    """Measure, print, and write JSON where asked."""
    options = command_line(__doc__, size=112, images=128, models=10, rounds=2).parse_args()
    tell(measure(options.size, options.images, options.models, options.rounds), options.json)


if __name__ == "__main__":
    main()
