"""Cross-model masking: this package against the obvious way, a Keras `predict` per source, destination and level.

    python benchmarks/masking.py [--size 112] [--images 16] [--json out.json]

The paper's design: 2 VGG-16 backbones with 10 readouts each. All 20 destinations see the masks of a few sources at six
levels; cost is proportional to the sources, so few stand for all. Both ways rank the same maps, mask the same images and
must agree on every predicted class.
"""

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks.common import CAFFE, command_line, face_pixels, interleaved, tell, vgg16_layers
from sweep.models.network import backbone_network, keras_model
from sweep.numerics.evaluation import Evaluator, Readouts, SameForAllMasks
from sweep.numerics.masking import masked, removal_ranks, removed_count, replacements
from sweep.numerics.readout import Readout

PERCENTS = (0.1, 0.316, 1.0, 3.16, 10.0, 31.6)
CLASSES = (101, 2) * 5


def measure(
    size: int, n_images: int, n_sources: int, rounds: int, classes: tuple[int, ...] = CLASSES
) -> dict[str, Any]:
    """Seconds of both ways for the same sources, destinations, levels and images."""
    draws = np.random.default_rng(0)
    pixels = face_pixels(n_images, size)
    inputs = CAFFE(pixels)
    maps = draws.normal(size=(n_sources, n_images, size * size)).astype(np.float32)
    n_features = (size // 32) ** 2 * 512
    backbones = [vgg16_layers("imagenet"), vgg16_layers("untrained")]
    readouts = [
        [
            Readout(0.01 * draws.standard_normal((n_features, n), np.float32), np.zeros(n, np.float32))
            for n in classes
        ]
        for _ in backbones
    ]
    evaluators = [Evaluator(backbone_network(layers, size)) for layers in backbones]
    together = [Readouts(own) for own in readouts]
    models = [
        [keras_model(layers, size, readout.kernel, readout.bias) for readout in own]
        for layers, own in zip(backbones, readouts, strict=True)
    ]
    counts = [removed_count(percent, size * size) for percent in PERCENTS]
    answers: dict[str, list[Any]] = {}

    def ours() -> None:
        found = []
        for own in maps:
            ranks = removal_ranks(own)
            instead = replacements("mean", pixels, (), CAFFE)
            for evaluator, side_by_side in zip(evaluators, together, strict=True):
                levels = evaluator.masked_features(inputs, SameForAllMasks(instead), ranks, counts)
                found += [logits.argmax(axis=1) for level in levels for logits in side_by_side.logits(level)]
        answers["ours"] = found

    def obvious() -> None:
        found = []
        for own in maps:
            for destinations in models:
                removed = [masked(inputs, removal_ranks(own), count) for count in counts]
                found += [
                    model.predict(level, verbose=0).argmax(axis=1)
                    for level in removed
                    for model in destinations
                ]
        answers["obvious"] = found

    times = interleaved({"ours": ours, "obvious": obvious}, rounds)
    same = np.mean([np.mean(a == b) for a, b in zip(answers["ours"], answers["obvious"], strict=True)])
    one_pass = (
        interleaved({"pass": lambda: evaluators[0].features(inputs).numpy()}, rounds)["pass"] / n_images
    )
    passes = n_sources * len(backbones) * len(counts) * n_images
    return {
        "size": size,
        "images": n_images,
        "sources": n_sources,
        "destinations": len(backbones) * len(classes),
        "ours_seconds": times["ours"],
        "obvious_seconds": times["obvious"],
        "speedup": times["obvious"] / times["ours"],
        "predictions_that_agree": float(same),
        "backbone_passes": passes,
        "over_floor": times["ours"] / (passes * one_pass),
    }


def main() -> None:
    """Measure, print, and write JSON where asked."""
    options = command_line(__doc__, size=112, images=16, sources=1, rounds=2).parse_args()
    tell(measure(options.size, options.images, options.sources, options.rounds), options.json)


if __name__ == "__main__":
    main()
