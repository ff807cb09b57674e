"""Deeper heads: masked passes of trunk and heads against plain ones, and against a Keras `predict` per head and level.

    python benchmarks/depths.py [--size 112] [--images 16] [--json out.json]

VGG-16 is trained again from block5_conv1 on, by ten heads. The masks of one source at six levels pass the trunk once, and
then every head. The floor is as many unmasked images through the trunk, and their features through every head.
"""

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks.common import CAFFE, command_line, face_pixels, interleaved, tell, vgg16_layers
from sweep.lrp.keras_writer import to_keras
from sweep.models.network import backbone_network, joined, untrained_head
from sweep.numerics.evaluation import Evaluator, OneByOne, SameForAllMasks
from sweep.numerics.head import Head
from sweep.numerics.masking import masked, removal_ranks, removed_count, replacements

PERCENTS = (0.1, 0.316, 1.0, 3.16, 10.0, 31.6)
CUT = "block5_conv1"
CLASSES = 101


def measure(size: int, n_images: int, n_heads: int, rounds: int) -> dict[str, Any]:
    """Seconds of masked passes with heads, of their floor, and of Keras."""
    import keras

    draws = np.random.default_rng(0)
    pixels = face_pixels(n_images, size)
    inputs, instead = CAFFE(pixels), replacements("mean", pixels, (), CAFFE)
    ranks = removal_ranks(draws.normal(size=(n_images, size * size)).astype(np.float32))
    trunk, tail = backbone_network(vgg16_layers(), size).before(CUT)
    evaluator = Evaluator(trunk)
    heads = [Head(untrained_head(tail, trunk.output_shape, (), CLASSES, str(n))) for n in range(n_heads)]
    together = OneByOne([lambda head=head: head for head in heads])  # type: ignore[misc]
    models = [to_keras(keras, joined(trunk, head.network)) for head in heads]
    counts = [removed_count(percent, size * size) for percent in PERCENTS]
    answers: dict[str, list[Any]] = {}

    def ours() -> None:
        levels = evaluator.masked_features(inputs, SameForAllMasks(instead), ranks, counts)
        answers["ours"] = [one.argmax(axis=1) for level in together.of_levels(levels) for one in level]

    def floor() -> None:
        features = evaluator.features(np.concatenate([inputs] * len(counts)))
        for head in heads:
            head.logits(features)

    def obvious() -> None:
        levels = [masked(inputs, ranks, count) for count in counts]
        answers["obvious"] = [
            model.predict(level, verbose=0).argmax(axis=1) for level in levels for model in models
        ]

    times = interleaved({"ours": ours, "floor": floor, "obvious": obvious}, rounds)
    same = np.mean([np.mean(a == b) for a, b in zip(answers["ours"], answers["obvious"], strict=True)])
    return {
        "size": size,
        "images": n_images,
        "heads": n_heads,
        "ours_seconds": times["ours"],
        "floor_seconds": times["floor"],
        "obvious_seconds": times["obvious"],
        "over_floor": times["ours"] / times["floor"],
        "speedup": times["obvious"] / times["ours"],
        "predictions_that_agree": float(same),
    }


def main() -> None:
    """Measure, print, and write JSON where asked."""
    options = command_line(__doc__, size=112, images=16, heads=10, rounds=3).parse_args()
    tell(measure(options.size, options.images, options.heads, options.rounds), options.json)


if __name__ == "__main__":
    main()
