"""Check what the bundled faces and backbones are for: `python -m tools.check_heads_readouts`.

Trains the demo's readouts (both tasks, five seeds) on frozen features of both backbones with the project's own
splitting, resizing and training, and prints the accuracies. Exit code 1 if a model misses the aims.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from sweep.arrays import Array
from sweep.data.images import VALIDATION, split, squared
from sweep.numerics.readout import Examples, ReadoutTraining
from sweep.study import Finetune
from tools import small_vgg
from tools.small_vgg import INPUT_SIZE

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
HEADS = ROOT / "sweep" / "data" / "bundled" / "heads.parquet"
BACKBONES = tuple(
    ROOT / "sweep" / "models" / "bundled" / f"{name}-small.npz" for name in ("objects", "faces")
)

WHOLE = 0.98
"""Aimed accuracy on all images: the paper's."""
VALIDATION_AIMS = {"identity": 0.90, "gender": 0.97}
"""Aimed accuracy on the images held back."""


def features(path: Path, pixels: Array) -> Array:
    """The backbone's last pool, flattened."""
    model, preprocessing = small_vgg.load(path)
    batches = [
        np.asarray(model(preprocessing.apply(pixels[start : start + 128])))
        for start in range(0, len(pixels), 128)
    ]
    return np.concatenate(batches).reshape(len(pixels), -1)


def accuracies(
    inputs: Array, classes: list[str], held: Array, key: str, epochs: int
) -> tuple[float, float, float]:
    """Accuracy of one readout on the training images, on those held back, and on all."""
    names, labels = np.unique(classes, return_inverse=True)
    training = ReadoutTraining(Examples(inputs, labels, held), len(names), Finetune(epochs=epochs), key)
    for _ in range(epochs):
        training.epoch()
    hits = training.readout().logits(inputs).argmax(1) == labels
    return float(hits[~held].mean()), float(hits[held].mean()), float(hits.mean())


def main(arguments: list[str] | None = None) -> int:
    """Print one line per model and one per backbone and task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=Path, default=HEADS)
    parser.add_argument("--backbones", type=Path, nargs="+", default=BACKBONES)
    parser.add_argument("--size", type=int, default=INPUT_SIZE, help="height and width of the input, pixels")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--split-seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)

    table = pq.read_table(options.heads).to_pydict()
    pixels = np.stack(
        [squared(np.asarray(Image.open(io.BytesIO(png))), options.size) for png in table["png"]]
    )
    held = np.array(split(table["image_id"], table["identity"], 0.2, options.split_seed)) == VALIDATION
    passed = True
    for path in options.backbones:
        inputs = features(path, pixels)
        log.info(
            "%s: %d features, %.0f %% of them ever active",
            path.name,
            inputs.shape[1],
            100 * (inputs > 0).any(0).mean(),
        )
        for task, aim in VALIDATION_AIMS.items():
            runs = [
                accuracies(inputs, table[task], held, f"{path.stem}-{task}-s{seed}", options.epochs)
                for seed in range(1, options.seeds + 1)
            ]
            for seed, (train, validation, whole) in enumerate(runs, start=1):
                good = whole >= WHOLE and validation >= aim
                passed &= good
                log.info(
                    "%s s%d: train %.4f, validation %.4f, whole %.4f%s",
                    *(task, seed, train, validation, whole, "" if good else "  SHORT"),
                )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
