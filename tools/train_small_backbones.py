"""Train the two bundled backbones from scratch: `python -m tools.train_small_backbones objects|faces`.

`objects` learns CIFAR-10; `faces` learns to tell apart the identities that `tools.render_training_faces` drew with
another generator of heads than the bundled faces come from. Runs on two CPU cores and may be interrupted.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf
from PIL import Image

from tools import small_vgg
from tools.backbone_trainer import Phase, Recipe, Split, train
from tools.small_vgg import INPUT_SIZE, Preprocessing

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).resolve().parents[1] / "sweep" / "models" / "bundled"

PREPROCESSING = {
    "objects": Preprocessing("RGB", (125.3, 123.0, 113.9), 1 / 64),
    "faces": Preprocessing("RGB", (127.5, 127.5, 127.5), 1 / 64),
}

RECIPES = {
    "objects": Recipe(
        phases=(Phase(24, 32, (0.6, 1.15), 0.3, 0.2), Phase(3, 64, (0.6, 1.4), 0.3, 0.2)),
        batch=128,
        peak_rate=0.1,
        cycle=32,
        cooldown=3,
        weight_decay=5e-4,
        grey=0.4,
        rotation=10,
        shift=0.1,
        seed=1,
    ),
    "faces": Recipe(
        phases=(Phase(10, 32, (0.8, 1.15), 0.3, 0.0), Phase(18, 64, (0.8, 1.15), 0.3, 0.0)),
        batch=64,
        peak_rate=0.05,
        cycle=28,
        cooldown=3,
        weight_decay=5e-4,
        grey=1.0,
        rotation=8,
        shift=0.06,
        seed=2,
    ),
}


def cifar10(path: Path | None) -> tuple[Split, Split]:
    """Training and test images of CIFAR-10, from a Parquet file of JPEGs or, without one, as Keras downloads them."""
    if path is None:
        import keras

        (x, y), (x_test, y_test) = keras.datasets.cifar10.load_data()
        return Split(x, y.ravel().astype(np.int64)), Split(x_test, y_test.ravel().astype(np.int64))
    table = pq.read_table(path)
    names = sorted(set(table["label"].to_pylist()))
    images = np.stack(
        [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in table["jpeg"].to_pylist()]
    )
    labels = np.array([names.index(label) for label in table["label"].to_pylist()])
    test = np.array(table["split"].to_pylist()) == "test"
    return Split(images[~test], labels[~test]), Split(images[test], labels[test])


def faces(path: Path) -> tuple[Split, Split]:
    """Training and held-out views of the rendered identities, as `tools.render_training_faces` stored them."""
    with np.load(path, allow_pickle=False) as data:
        images = np.repeat(data["images"][..., None], 3, axis=-1)
        labels, held_out = data["labels"].astype(np.int64), data["held_out"]
    return Split(images[~held_out], labels[~held_out]), Split(images[held_out], labels[held_out])


def main(arguments: list[str] | None = None) -> int:
    """Train one backbone, fold it, write it and say how good it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, help="Parquet file of CIFAR-10, or the .npz of rendered faces")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--out", type=Path, help="weight file to write (default: the bundled one)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)

    if options.backbone == "faces" and options.data is None:
        parser.error("faces needs --data")
    training, held_out = cifar10(options.data) if options.backbone == "objects" else faces(options.data)
    log.info("%d training images, %d held out", len(training.images), len(held_out.images))
    preprocessing = PREPROCESSING[options.backbone]
    trainer = train(RECIPES[options.backbone], training, held_out, preprocessing, options.work)
    for size in (32, INPUT_SIZE):
        for grey in (False, True):
            accuracy = trainer.accuracy(held_out, size, grey=grey)
            log.info("held-out accuracy at %d px%s: %.4f", size, " in grey" if grey else "", accuracy)
    out = options.out or BUNDLED / f"{options.backbone}-small.npz"
    digest = small_vgg.save(out, small_vgg.fold(trainer.backbone), preprocessing)
    log.info("%s: %d bytes, sha256 %s", out.name, out.stat().st_size, digest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
