"""The training loop of the small backbones: in-memory images, one-cycle learning rate, a checkpoint per epoch.

The loop may be stopped at any time; started again with the same work folder it goes on after the last whole
epoch with the same random numbers, because every epoch draws from a generator of its own.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sweep.arrays import Array
from tools import small_vgg
from tools.small_vgg import Preprocessing

log = logging.getLogger(__name__)


LUMINANCE = np.array([[0.299] * 3, [0.587] * 3, [0.114] * 3], np.float32)
"""Matrix that turns RGB into grey on all three channels."""


@dataclass(frozen=True)
class Phase:
    """A run of epochs at one input size; small inputs first saves most of the time."""

    epochs: int
    """Passes over the training images."""
    size: int
    """Height and width of the input in pixels."""
    zoom: tuple[float, float]
    """Range of the crop's width as a fraction of the image's; above 1 the image is reflected at its borders."""
    jitter: float
    """Strength of the brightness and contrast changes."""
    instance_weight: float
    """Weight of the loss that asks to tell every image from every other one. Labels alone let the last features
    of a narrow network collapse to as many directions as there are classes, and leave little for other tasks."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a training run, apart from its images."""

    phases: tuple[Phase, ...]
    """Run one after the other under a single learning-rate schedule."""
    batch: int
    """Images per step; with an instance loss each appears twice, as two augmented views."""
    peak_rate: float
    """Highest learning rate of the cycle."""
    cycle: int
    """Epochs of the learning rate's cycle."""
    cooldown: int
    """Last epochs, in which the rate goes to nothing wherever the cycle stands."""
    weight_decay: float
    """L2 penalty on the kernels."""
    grey: float
    """Share of the training views shown in greyscale, since the backbones are used on grey faces."""
    rotation: float
    """Largest rotation in degrees."""
    shift: float
    """Largest shift as a fraction of the image's width."""
    seed: int
    """Of the initial weights, the order of the images and the augmentation."""


@dataclass(frozen=True)
class Split:
    """Images with their labels."""

    images: Array
    """(N, H, W, 3)."""
    labels: Array
    """(N,) class indices."""


def augment(images: Array, phase: Phase, recipe: Recipe, rng: np.random.Generator) -> Array:
    """Crop, rotate, flip and resize in one interpolation, then vary grey, brightness and contrast."""
    count, height = images.shape[:2]
    low, high = (float(np.log(edge)) for edge in phase.zoom)
    zoom = np.exp(rng.uniform(low, high, count))
    angle = np.deg2rad(rng.uniform(-recipe.rotation, recipe.rotation, count))
    flip = rng.choice((-1.0, 1.0), count)
    step = zoom * height / phase.size
    a, b = step * np.cos(angle), -step * np.sin(angle)
    c, d = step * np.sin(angle), step * np.cos(angle)
    a, c = a * flip, c * flip
    centre_in, centre_out = (height - 1) / 2, (phase.size - 1) / 2
    shift = rng.uniform(-recipe.shift, recipe.shift, (2, count)) * height
    zeros = np.zeros(count)
    matrix = np.stack(
        [
            *(a, b, centre_in - (a + b) * centre_out + shift[0]),
            *(c, d, centre_in - (c + d) * centre_out + shift[1]),
            *(zeros, zeros),
        ],
        axis=1,
    ).astype(np.float32)
    # An interpolation looks at four pixels only, so a shrinking image is shrunk by whole factors beforehand.
    factor = max(1, round(height / phase.size))
    source = images.astype(np.float32)
    if factor > 1:
        source = np.asarray(tf.nn.avg_pool2d(source, factor, factor, "VALID"))
        matrix[:, [0, 1, 3, 4]] /= factor
        matrix[:, [2, 5]] = (matrix[:, [2, 5]] - (factor - 1) / 2) / factor
    pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=source,
        transforms=matrix,
        output_shape=np.array([phase.size, phase.size], np.int32),
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    ).numpy()
    grey = (rng.random(count) < recipe.grey)[:, None, None, None]
    pixels = np.where(grey, pixels @ LUMINANCE, pixels)
    gain = np.exp(rng.normal(0, 0.5 * phase.jitter, (count, 1, 1, 1)))
    offset = rng.normal(0, 64 * phase.jitter, (count, 1, 1, 1))
    middle = pixels.mean((1, 2, 3), keepdims=True)
    varied: Array = np.clip((pixels - middle) * gain + middle + offset, 0, 255).astype(np.float32)
    return varied


def resize(images: Array, size: int) -> Array:
    """Change the size as the backbones' users do: area when shrinking, bilinear when growing."""
    method = "area" if images.shape[1] > size else "bilinear"
    return np.asarray(tf.image.resize(images.astype(np.float32), (size, size), method=method))


def to_grey(pixels: Array) -> Array:
    """Replicate the luminance to the three channels."""
    return pixels @ LUMINANCE


class Trainer:
    """A backbone with its two temporary heads, its optimiser and its progress."""

    def __init__(self, recipe: Recipe, classes: int, images: int, preprocessing: Preprocessing) -> None:
        """Build everything from the seed."""
        keras.utils.set_random_seed(recipe.seed)
        self.recipe, self.preprocessing = recipe, preprocessing
        self.backbone = small_vgg.build(batch_norm=True)
        pooled = keras.layers.GlobalAveragePooling2D()(self.backbone.output)
        logits = keras.layers.Dense(classes, name="labels")(pooled)
        hidden = keras.layers.Dense(128, activation="relu", name="instances_1")(pooled)
        codes = keras.layers.Dense(64, name="instances_2")(hidden)
        self.model = keras.Model(self.backbone.input, [logits, codes])
        self.steps_per_epoch = images // recipe.batch
        self.total_steps = self.steps_per_epoch * sum(phase.epochs for phase in recipe.phases)
        self.optimizer = keras.optimizers.SGD(recipe.peak_rate, momentum=0.9, nesterov=True)
        self.optimizer.build(self.model.trainable_variables)
        self.epoch = 0
        # Compiled without XLA: its convolution gradients run at less than half the speed on CPUs.
        self._step = tf.function(self._step_eager, reduce_retracing=True)
        self._predict = tf.function(lambda x: self.model(x, training=False)[0], reduce_retracing=True)

    def _step_eager(self, x: Any, labels: Any, instance_weight: Any) -> Any:
        recipe = self.recipe
        with tf.GradientTape() as tape:
            logits, codes = self.model(x, training=True)
            label_loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
            # Each image appears twice in the batch, `batch` places apart: find the other view among all.
            codes = tf.math.l2_normalize(codes, axis=1)
            count = tf.shape(codes)[0]
            similarity = codes @ tf.transpose(codes) / 0.2 - 1e9 * tf.eye(count)
            partner = tf.math.floormod(tf.range(count) + count // 2, count)
            instance_loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=partner, logits=similarity)
            )
            kernels = [v for v in self.model.trainable_variables if v.path.endswith("kernel")]
            penalty = tf.add_n([tf.nn.l2_loss(kernel.value) for kernel in kernels])
            loss = label_loss + instance_weight * instance_loss + recipe.weight_decay * penalty
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        hits = tf.reduce_mean(tf.cast(tf.argmax(logits, 1) == labels, tf.float32))
        return tf.stack([label_loss, instance_loss, hits])

    def rate(self, step: int) -> float:
        """A quarter of the cycle up and the rest down along a cosine; the cooldown goes straight to nothing."""
        recipe = self.recipe
        progress = step / (self.steps_per_epoch * recipe.cycle)
        if progress < 0.25:
            return recipe.peak_rate * (0.1 + 0.9 * progress / 0.25)
        share = 0.5 * (1 + float(np.cos(np.pi * (min(progress, 1) - 0.25) / 0.75)))
        left = (self.total_steps - step) / (self.steps_per_epoch * recipe.cooldown)
        return recipe.peak_rate * share * min(1.0, left)

    def run_epoch(self, data: Split, phase: Phase) -> Array:
        """One pass over the images; returns label loss, instance loss and training accuracy."""
        rng = np.random.default_rng([self.recipe.seed, self.epoch])
        order = rng.permutation(len(data.images))
        totals = np.zeros(3)
        for number in range(self.steps_per_epoch):
            chosen = order[number * self.recipe.batch : (number + 1) * self.recipe.batch]
            shown = np.concatenate([chosen, chosen]) if phase.instance_weight else chosen
            pixels = augment(data.images[shown], phase, self.recipe, rng)
            self.optimizer.learning_rate.assign(self.rate(self.epoch * self.steps_per_epoch + number))
            weight = tf.constant(phase.instance_weight, tf.float32)
            totals += self._step(self.preprocessing.apply(pixels), data.labels[shown], weight).numpy()
        self.epoch += 1
        return totals / self.steps_per_epoch

    def accuracy(self, data: Split, size: int, *, grey: bool) -> float:
        """Share of images whose label is found at this input size."""
        hits = 0
        for start in range(0, len(data.images), 250):
            pixels = resize(data.images[start : start + 250], size)
            pixels = to_grey(pixels) if grey else pixels
            logits = self._predict(self.preprocessing.apply(pixels)).numpy()
            hits += int((logits.argmax(1) == data.labels[start : start + 250]).sum())
        return hits / len(data.images)

    def variables(self) -> list[Any]:
        """All that changes in training."""
        return [*self.model.variables, *self.optimizer.variables]

    def checkpoint(self, path: Path) -> None:
        """Write the whole state, so that a kill leaves the previous file or the new one."""
        state = {f"v{i:03d}": np.asarray(variable) for i, variable in enumerate(self.variables())}
        partial = path.with_name(path.name + ".partial.npz")
        np.savez(partial, epoch=self.epoch, **state)  # type: ignore[arg-type]
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Go back to a checkpoint."""
        with np.load(path, allow_pickle=False) as state:
            for i, variable in enumerate(self.variables()):
                variable.assign(state[f"v{i:03d}"])
            self.epoch = int(state["epoch"])


def train(
    recipe: Recipe, training: Split, held_out: Split, preprocessing: Preprocessing, work: Path
) -> Trainer:
    """Train from scratch, or from the checkpoint in `work`, to the end of the last phase."""
    work.mkdir(parents=True, exist_ok=True)
    classes = int(training.labels.max()) + 1
    trainer = Trainer(recipe, classes, len(training.images), preprocessing)
    checkpoint = work / "checkpoint.npz"
    if checkpoint.exists():
        trainer.restore(checkpoint)
        log.info("going on after epoch %d", trainer.epoch)
    schedule = [phase for phase in recipe.phases for _ in range(phase.epochs)]
    while trainer.epoch < len(schedule):
        phase, began = schedule[trainer.epoch], time.monotonic()
        losses = trainer.run_epoch(training, phase)
        shown = [trainer.accuracy(held_out, phase.size, grey=grey) for grey in (False, True)]
        log.info(
            "epoch %d/%d at %d px: label loss %.3f, instance loss %.3f, training accuracy %.3f, "
            "held-out accuracy %.4f (grey %.4f), %.0f s",
            *(trainer.epoch, len(schedule), phase.size, *losses, *shown, time.monotonic() - began),
        )
        trainer.checkpoint(checkpoint)
    return trainer
