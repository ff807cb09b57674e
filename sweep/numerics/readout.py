"""Training the re-learned last layer: softmax regression on a frozen backbone's features, by Adam.

Pure numerics on TensorFlow. Initial weights and batch order come from the model's key alone.
"""

import functools
import io
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from sweep.arrays import Array
from sweep.errors import WorkError
from sweep.keys import generator
from sweep.lrp.precision import full_precision
from sweep.study import Finetune

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
"""Adam's constants, those of Keras."""


@dataclass(frozen=True)
class Readout:
    """The dense layer from features to logits."""

    kernel: Array
    """float32, (feature, class)."""
    bias: Array
    """float32, (class,)."""

    def logits(self, features: Array) -> Array:
        """Pre-softmax activations, float32 (image, class), of `features` (image, feature)."""
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # whoever stores them looks whether they are finite
            logits: Array = features @ self.kernel + self.bias
        return logits

    @classmethod
    def zeros(cls, features: int, classes: int) -> "Readout":
        """A layer that has learned nothing and answers nothing."""
        return cls(np.zeros((features, classes), np.float32), np.zeros(classes, np.float32))

    def to_bytes(self) -> bytes:
        """The layer as an npz file; the same weights always give the same bytes."""
        buffer = io.BytesIO()
        np.savez(buffer, kernel=self.kernel, bias=self.bias)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Readout":
        """Read what `to_bytes` wrote. Raises ValueError or KeyError where `content` is something else."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return cls(file["kernel"], file["bias"])


@dataclass(frozen=True)
class EpochMetrics:
    """How a readout stands after an epoch; losses are mean cross-entropies in nats, accuracies fractions."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


class Examples:
    """Features and classes of the images to train on, and of those held back."""

    def __init__(
        self, features: Array, labels: Array, validation: Array, mirrored: Array | None = None
    ) -> None:
        """Split `features` (image, feature) and class indices `labels` (image,) by `validation` (image,).

        `mirrored` are the features of the training images' mirror images, in their order, where those are to be seen too.
        Raises WorkError where the features teach nothing.
        """
        self.train, self.held = features[~validation], features[validation]
        self.train_labels, self.held_labels = (
            labels[part].astype(np.int32) for part in (~validation, validation)
        )
        self.count = len(self.train)
        """How many images there are to train on; their mirror images, where there are any, follow behind."""
        self._mirrored = mirrored is not None
        if mirrored is not None:
            self.train = np.concatenate([self.train, mirrored])
            self.train_labels = np.tile(self.train_labels, 2)
        if not (np.isfinite(self.train).all() and np.isfinite(self.held).all()):
            raise WorkError("the features are not finite")
        if not (self.train != self.train[:1]).any():
            raise WorkError("the training images have the same features, so nothing can be learned from them")

    def order(self, draws: np.random.Generator) -> Array:
        """The rows of an epoch in a random order: each image once, or by an even chance its mirror image."""
        order: Array = draws.permutation(self.count)
        return order + self.count * draws.integers(0, 2, self.count) if self._mirrored else order


def rates(settings: Finetune, epochs_done: int, count: int) -> Array:
    """The learning rate of each of the `count` steps of an epoch, float32 (step,)."""
    if settings.learning_rate_schedule == "constant":
        return np.full(count, settings.learning_rate, np.float32)
    done = (epochs_done * count + np.arange(count)) / (
        settings.epochs * count
    )  # Loshchilov & Hutter 2017, equation 5
    return np.asarray(settings.learning_rate * (1 + np.cos(np.pi * done)) / 2, np.float32)


class ReadoutTraining:
    """Trains one readout epoch by epoch."""

    def __init__(self, examples: Examples, n_classes: int, settings: Finetune, key: str) -> None:
        """Prepare to train on `examples`; `key` names the model and seeds every draw.

        The other methods raise WorkError where a number is not finite.
        """
        self._settings, self._examples = settings, examples
        self._draws = generator("readout", key)
        train = examples.train
        self._centre, self._scale = standardization(train) if settings.standardize else _identity(train)
        self._train = tf.constant((train - self._centre) * self._scale)
        self._train_labels = tf.constant(examples.train_labels)
        self._held = tf.constant((examples.held - self._centre) * self._scale)
        self._held_labels = tf.constant(examples.held_labels)
        limit = np.sqrt(6 / (train.shape[1] + n_classes))  # Glorot & Bengio 2010, uniform
        kernel = self._draws.uniform(-limit, limit, (train.shape[1], n_classes)).astype(np.float32)
        weights = (tf.constant(kernel), tf.zeros(n_classes))
        zeros = tuple(tf.zeros_like(weight) for weight in weights)
        self._state = (weights, zeros, zeros, tf.constant(0.0))
        self.epochs_done = 0

    @full_precision()
    def epoch(self) -> EpochMetrics:
        """Train for one pass over the training images and report both splits as they stand after it."""
        count = self._examples.count
        size = min(self._settings.batch_size, count)
        padding = -count % size
        order = np.concatenate([self._examples.order(self._draws), np.zeros(padding, np.int64)])
        weight = np.concatenate([np.ones(count, np.float32), np.zeros(padding, np.float32)])
        self._state = _train_epoch(
            self._state,
            self._train,
            self._train_labels,
            tf.constant(order.reshape(-1, size).astype(np.int32)),
            tf.constant(weight.reshape(-1, size)),
            tf.constant(rates(self._settings, self.epochs_done, len(order) // size)),
        )
        self.epochs_done += 1
        loss, accuracy = _evaluate(self._state[0], self._train[:count], self._train_labels[:count])
        val_loss, val_accuracy = _evaluate(self._state[0], self._held, self._held_labels)
        row = EpochMetrics(
            self.epochs_done, float(loss), float(accuracy), float(val_loss), float(val_accuracy)
        )
        if not np.isfinite(astuple(row)).all():
            raise WorkError(
                f"after epoch {row.epoch} the loss is {row.loss:g}, on the validation split {row.val_loss:g}; "
                "lower finetune.learning_rate"
            )
        return row

    def readout(self) -> Readout:
        """The layer as it stands, with the standardisation folded in: it takes the backbone's raw features."""
        kernel, bias = (weight.numpy() for weight in self._state[0])
        with np.errstate(over="ignore", invalid="ignore"):
            folded = kernel * self._scale[:, None]
            readout = Readout(folded, (bias - self._centre.astype(np.float64) @ folded).astype(np.float32))
        if not (np.isfinite(readout.kernel).all() and np.isfinite(readout.bias).all()):
            raise WorkError("the trained weights are not finite; lower finetune.learning_rate")
        return readout


class GivenReadout:
    """A readout that was trained elsewhere, in the place of one that is trained: its one epoch changes nothing."""

    def __init__(self, features: Array, labels: Array, validation: Array, kernel: Array, bias: Array) -> None:
        """The first arguments are those of `Examples`, the others the layer's `kernel` and `bias`.

        Raises WorkError where the features do not fit the layer, or are not finite.
        """
        if features.shape[1] != len(kernel) or not np.isfinite(features).all():
            raise WorkError(
                f"the readout takes {len(kernel):,} finite features, and the backbone gives {features.shape[1]:,}"
            )
        self._readout = Readout(kernel, bias)
        self._parts = [(features[part], labels[part].astype(np.int32)) for part in (~validation, validation)]

    @full_precision()
    def epoch(self) -> EpochMetrics:
        """How the readout stands on both splits."""
        weights = tf.constant(self._readout.kernel), tf.constant(self._readout.bias)
        measured = [
            float(value)
            for features, labels in self._parts
            for value in _evaluate(weights, tf.constant(features), tf.constant(labels))
        ]
        return EpochMetrics(1, *measured)

    def readout(self) -> Readout:
        """The layer as it is."""
        return self._readout


def standardization(features: Array) -> tuple[Array, Array]:
    """Mean and inverse deviation per feature; a feature that never varies gets scale 0, so it stays unused."""
    with np.errstate(over="ignore"):
        deviation = features.std(axis=0)
    varies = deviation > 1e-6 * max(float(deviation.max()), 1e-30)
    if not (np.isfinite(deviation).all() and varies.any()):
        raise WorkError("the features vary too much or too little for float32 to tell their deviation")
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)
    return features.mean(axis=0).astype(np.float32), scale


def _identity(features: Array) -> tuple[Array, Array]:
    return np.zeros(features.shape[1], np.float32), np.ones(features.shape[1], np.float32)


@functools.cache
def _jitted(function: Any) -> Any:
    return tf.function(function, jit_compile=True, reduce_retracing=True)


def _train_epoch(state: Any, features: Any, labels: Any, batches: Any, weights: Any, of_steps: Any) -> Any:
    return _jitted(_adam_over_batches)(state, features, labels, batches, weights, of_steps)


def _evaluate(weights: Any, features: Any, labels: Any) -> Any:
    return _jitted(_loss_and_accuracy)(weights, features, labels)


def _adam_over_batches(
    state: Any, features: Any, labels: Any, batches: Any, sample_weights: Any, of_steps: Any
) -> Any:
    """One pass over the rows of `batches` (batch, position); padding positions have sample weight 0.

    `of_steps` (batch,) are the learning rates.
    """

    def step(index: Any, state: Any) -> Any:
        (kernel, bias), first, second, count = state
        chosen, share = batches[index], sample_weights[index]
        inputs = tf.gather(features, chosen)
        target = tf.one_hot(tf.gather(labels, chosen), tf.shape(bias)[0])
        error = (tf.nn.softmax(inputs @ kernel + bias) - target) * (share / tf.reduce_sum(share))[:, None]
        gradients = (tf.matmul(inputs, error, transpose_a=True), tf.reduce_sum(error, axis=0))
        count += 1
        corrected = of_steps[index] * tf.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
        first = tuple(BETA_1 * m + (1 - BETA_1) * g for m, g in zip(first, gradients, strict=True))
        second = tuple(BETA_2 * v + (1 - BETA_2) * g * g for v, g in zip(second, gradients, strict=True))
        moved = tuple(
            weight - corrected * m / (tf.sqrt(v) + EPSILON)
            for weight, m, v in zip((kernel, bias), first, second, strict=True)
        )
        return index + 1, (moved, first, second, count)

    count = tf.shape(batches)[0]
    return tf.while_loop(lambda index, _: index < count, step, (tf.constant(0), state))[1]


def _loss_and_accuracy(weights: Any, features: Any, labels: Any) -> Any:
    logits = features @ weights[0] + weights[1]
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    hits = tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32) == labels, tf.float32)
    return loss, tf.reduce_mean(hits)
