"""Training a head deeper than a readout, by Keras: cross-entropy by Adam, an epoch at a time.

Initial weights, and the order of the batches of each epoch, come from the model's key alone: training that goes on from a
state that was kept ends where training in one go ends.
"""

import weakref
from collections.abc import Mapping
from dataclasses import astuple, replace
from typing import Any

import numpy as np

from sweep.arrays import Array
from sweep.errors import WorkError
from sweep.keys import generator
from sweep.lrp import Network
from sweep.lrp.keras_writer import name_of, set_weights, to_keras
from sweep.lrp.layers import WEIGHTED
from sweep.lrp.precision import full_precision
from sweep.lrp.steps import steps
from sweep.numerics.head import Head
from sweep.numerics.readout import BETA_1, BETA_2, EPSILON, EpochMetrics, Examples, rates, standardization
from sweep.study import Finetune


class HeadTraining:
    """Trains one head epoch by epoch."""

    def __init__(self, examples: Examples, start: Network, n_new: int, settings: Finetune, key: str) -> None:
        """Prepare to train the layers `start` on `examples`; the last `n_new` of those with weights are new.

        What the new layers see is standardised with the statistics of the training split, as the pretrained layers before
        them make it at first. Raises WorkError where a number is not finite, as do the other methods.
        """
        self._examples, self._settings, self._key, self._start = examples, settings, key, start
        self.epochs_done = 0
        self._first_new = _weighted(start)[-n_new]
        before = start.up_to(start.reads[self._first_new][0] - 1)
        given = Head(before).logits(examples.train)
        size = given.shape[1]
        if settings.standardize:
            self._centre, self._scale = standardization(given)
        else:
            self._centre, self._scale = np.zeros(size, np.float32), np.ones(size, np.float32)
        self._model = self._taken()
        self._reset()

    @full_precision()
    def epoch(self) -> EpochMetrics:
        """Train for one pass over the training images and report both splits as they stand after it."""
        examples, optimizer = self._examples, self._model.optimizer
        order = examples.order(generator("head epoch", self._key, self.epochs_done))
        size = min(self._settings.batch_size, len(order))
        of_steps = rates(self._settings, self.epochs_done, -(-len(order) // size))
        for rate, start in zip(of_steps, range(0, len(order), size), strict=True):
            optimizer.learning_rate.assign(rate)
            chosen = order[start : start + size]
            self._model.train_on_batch(self._images(examples.train[chosen]), examples.train_labels[chosen])
        self.epochs_done += 1
        head = self._head()
        count = examples.count
        parts = (
            (examples.train[:count], examples.train_labels[:count]),
            (examples.held, examples.held_labels),
        )
        measured = [
            value for features, own in parts for value in _loss_and_accuracy(head.logits(features), own)
        ]
        row = EpochMetrics(self.epochs_done, *measured)
        if not np.isfinite(astuple(row)).all():
            raise WorkError(
                f"after epoch {row.epoch} the loss is {row.loss:g}, on the validation split {row.val_loss:g}; "
                "lower finetune.learning_rate"
            )
        return row

    def readout(self) -> Head:
        """The head as it stands; it takes the trunk's features as they are."""
        head = self._head()
        if not all(
            np.isfinite(layer.kernel).all() and np.isfinite(layer.bias).all()
            for layer in head.network.layers
            if isinstance(layer, WEIGHTED)
        ):
            raise WorkError("the trained weights are not finite; lower finetune.learning_rate")
        return head

    def state(self) -> dict[str, Array]:
        """All that training goes on from, by name."""
        weights = {f"weight{n}": w.numpy() for n, w in enumerate(self._model.weights)}
        optimizer = {f"optimizer{n}": np.asarray(v) for n, v in enumerate(self._model.optimizer.variables)}
        return weights | optimizer | {"epochs_done": np.asarray(self.epochs_done)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from what `state` gave. Raises KeyError or ValueError where it is of another head."""
        for name, array in self.state().items():
            if state[name].shape != array.shape:
                raise ValueError(f"{name} has another shape")
        for n, weight in enumerate(self._model.weights):
            weight.assign(state[f"weight{n}"])
        for n, variable in enumerate(self._model.optimizer.variables):
            variable.assign(state[f"optimizer{n}"])
        self.epochs_done = int(state["epochs_done"])

    def _taken(self) -> Any:
        """A model of this architecture that no other training uses; it is free again once this object is gone."""
        architecture = (steps(self._start, [None] * len(self._start.layers)), self._first_new)
        free = _free.setdefault(architecture, [])
        model = free.pop() if free else _compiled(self._start, self._first_new)
        weakref.finalize(self, free.append, model)
        return model

    def _reset(self) -> None:
        set_weights(self._model, self._start)
        self._model.get_layer(_BETWEEN).set_weights([self._scale, -self._centre * self._scale])
        for variable in self._model.optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    def _images(self, features: Array) -> Array:
        images: Array = features.reshape(-1, *self._start.input_shape)
        return images

    def _head(self) -> Head:
        """The layers as they are trained by now, with the standardisation folded in."""
        layers = list(self._start.layers)
        for place in _weighted(self._start):
            kernel, bias = self._model.get_layer(name_of(place)).get_weights()
            own = layers[place]
            assert isinstance(own, WEIGHTED)
            if place == self._first_new:
                with np.errstate(over="ignore", invalid="ignore"):
                    kernel = kernel * self._scale[:, None]
                    bias = (bias - self._centre.astype(np.float64) @ kernel).astype(np.float32)
            layers[place] = replace(own, kernel=kernel.reshape(own.kernel.shape), bias=bias)
        return Head(replace(self._start, layers=tuple(layers)))


_BETWEEN = "standardised"
_free: dict[Any, list[Any]] = {}
"""Compiled models that no training uses, by architecture: a process meets few, and compiling takes a second."""


def _compiled(network: Network, first_new: int) -> Any:
    """A Keras model of an architecture with its optimizer; whoever uses it sets all weights."""
    import keras

    between = _standardised(keras)
    model = to_keras(keras, network, between={first_new: between})
    model.compile(
        optimizer=keras.optimizers.Adam(beta_1=BETA_1, beta_2=BETA_2, epsilon=EPSILON),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _standardised(keras: Any) -> Any:
    """A layer that multiplies each feature by a number and adds another; neither is trained."""

    class Standardised(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.scale = self.add_weight(shape=shape[-1:], initializer="ones", trainable=False, name="scale")
            self.offset = self.add_weight(
                shape=shape[-1:], initializer="zeros", trainable=False, name="offset"
            )

        def call(self, inputs: Any) -> Any:
            return inputs * self.scale + self.offset

    return Standardised(name=_BETWEEN, dtype="float32")


def _weighted(network: Network) -> list[int]:
    """Places of the layers with weights."""
    return [place for place, layer in enumerate(network.layers) if isinstance(layer, WEIGHTED)]


def _loss_and_accuracy(logits: Array, labels: Array) -> tuple[float, float]:
    """Mean cross-entropy in nats, and the fraction of hits."""
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return float(losses.mean()), float((logits.argmax(axis=1) == labels).mean())
