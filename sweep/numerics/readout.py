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


class ReadoutTraining:
    """Trains one readout epoch by epoch."""

    def __init__(
        self, features: Array, labels: Array, validation: Array, n_classes: int, settings: Finetune, key: str
    ) -> None:
        """Prepare to train on `features` (image, feature) where `validation` (image,) is False.

        `labels` are class indices (image,). `key` names the model and seeds every draw.

        Raises WorkError where the features teach nothing, as do the other methods where a number is not finite.
        """
        self._settings = settings
        self._draws = generator("readout", key)
        train = features[~validation]
        if not np.isfinite(features).all():
            raise WorkError("the features are not finite")
        if not (train != train[:1]).any():
            raise WorkError("the training images have the same features, so nothing can be learned from them")
        self._centre, self._scale = _standardization(train) if settings.standardize else _identity(train)
        self._train = tf.constant((train - self._centre) * self._scale)
        self._train_labels = tf.constant(labels[~validation].astype(np.int32))
        self._held = tf.constant((features[validation] - self._centre) * self._scale)
        self._held_labels = tf.constant(labels[validation].astype(np.int32))
        limit = np.sqrt(6 / (features.shape[1] + n_classes))  # Glorot & Bengio 2010, uniform
        kernel = self._draws.uniform(-limit, limit, (features.shape[1], n_classes)).astype(np.float32)
        weights = (tf.constant(kernel), tf.zeros(n_classes))
        zeros = tuple(tf.zeros_like(weight) for weight in weights)
        self._state = (weights, zeros, zeros, tf.constant(0.0))
        self.epochs_done = 0

    @full_precision()
    def epoch(self) -> EpochMetrics:
        """Train for one pass over the training images and report both splits as they stand after it."""
        count, size = len(self._train_labels), min(self._settings.batch_size, len(self._train_labels))
        padding = -count % size
        order = np.concatenate([self._draws.permutation(count), np.zeros(padding, np.int64)])
        weight = np.concatenate([np.ones(count, np.float32), np.zeros(padding, np.float32)])
        self._state = _train_epoch(
            self._state,
            self._train,
            self._train_labels,
            tf.constant(order.reshape(-1, size).astype(np.int32)),
            tf.constant(weight.reshape(-1, size)),
            tf.constant(self._settings.learning_rate, tf.float32),
        )
        self.epochs_done += 1
        loss, accuracy = _evaluate(self._state[0], self._train, self._train_labels)
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
        """The arguments are those of `ReadoutTraining`, with the layer's `kernel` and `bias`.

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


def _standardization(features: Array) -> tuple[Array, Array]:
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


def _train_epoch(state: Any, features: Any, labels: Any, batches: Any, weights: Any, rate: Any) -> Any:
    return _jitted(_adam_over_batches)(state, features, labels, batches, weights, rate)


def _evaluate(weights: Any, features: Any, labels: Any) -> Any:
    return _jitted(_loss_and_accuracy)(weights, features, labels)


def _adam_over_batches(
    state: Any, features: Any, labels: Any, batches: Any, sample_weights: Any, rate: Any
) -> Any:
    """One pass over the rows of `batches` (batch, position); padding positions have sample weight 0."""

    def step(index: Any, state: Any) -> Any:
        (kernel, bias), first, second, count = state
        chosen, share = batches[index], sample_weights[index]
        inputs = tf.gather(features, chosen)
        target = tf.one_hot(tf.gather(labels, chosen), tf.shape(bias)[0])
        error = (tf.nn.softmax(inputs @ kernel + bias) - target) * (share / tf.reduce_sum(share))[:, None]
        gradients = (tf.matmul(inputs, error, transpose_a=True), tf.reduce_sum(error, axis=0))
        count += 1
        corrected = rate * tf.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
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
