"""Deeper heads: training against a Keras model written by hand, checkpoints, mirrored images, and the folding."""

from typing import Any

import numpy as np
import pytest

from sweep.arrays import Array
from sweep.errors import WorkError
from sweep.keys import generator
from sweep.lrp import Conv, Flatten, MaxPool, Network, ReLU
from sweep.lrp.layers import WEIGHTED
from sweep.models.network import untrained_head
from sweep.numerics.head import Head, layers_of, trained_of
from sweep.numerics.head_training import HeadTraining
from sweep.numerics.readout import Examples, rates
from sweep.study import Finetune

CLASSES = 4
TRUNK = (6, 6, 3)


def examples(images: int = 50, mirrored: bool = False) -> Examples:
    draws = np.random.default_rng(5)
    labels = draws.integers(0, CLASSES, images)
    patterns = draws.normal(size=(CLASSES, *TRUNK))
    features = np.maximum(draws.normal(size=(images, *TRUNK)) + 2 * patterns[labels], 0).astype(np.float32)
    validation = np.arange(images) % 5 == 0
    turned = features[~validation][:, :, ::-1].reshape(-1, 108) if mirrored else None
    return Examples(features.reshape(images, -1), labels, validation, turned)


def tail() -> Network:
    draws = np.random.default_rng(6)
    kernel = draws.normal(0, 1 / 3, (3, 3, 3, 5)).astype(np.float32)
    layers = (Conv(kernel, np.zeros(5, np.float32), name="conv"), ReLU(), MaxPool(), Flatten())
    return Network(layers, TRUNK)


def start(kind: str) -> tuple[Network, int]:
    """A head as training begins, and how many of its layers are new."""
    if kind == "block":
        return untrained_head(tail(), TRUNK, (), CLASSES, "key"), 1
    return untrained_head(None, (108,), (16, 8), CLASSES, "key"), 3


def by_hand(kind: str, network: Network) -> Any:
    import keras

    layers: list[Any]
    if kind == "block":
        layers = [
            keras.Input(TRUNK),
            keras.layers.Conv2D(5, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    else:
        layers = [
            keras.Input((108,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(CLASSES),
        ]
    model = keras.Sequential(layers)
    own = [layer for layer in network.layers if isinstance(layer, WEIGHTED)]
    model.set_weights([array for layer in own for array in (layer.kernel, layer.bias)])
    return model


@pytest.mark.parametrize("kind", ["block", "dense"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_training_equals_a_keras_model_written_by_hand(kind: str, schedule: str) -> None:
    import keras

    data, (network, n_new) = examples(), start(kind)
    settings = Finetune.model_validate(
        {
            "epochs": 3,
            "batch_size": 16,
            "learning_rate": 0.01,
            "standardize": False,
            "learning_rate_schedule": schedule,
        }
    )
    training = HeadTraining(data, network, n_new, settings, "key")
    rows = [training.epoch() for _ in range(3)]

    twin = by_hand(kind, network)
    rate = keras.optimizers.schedules.CosineDecay(0.01, 3 * 3) if schedule == "cosine" else 0.01
    twin.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    shape = (-1, *TRUNK) if kind == "block" else (-1, 108)
    train, held = data.train.reshape(shape), data.held.reshape(shape)
    for epoch, row in enumerate(rows):
        order = generator("head epoch", "key", epoch).permutation(len(train))
        twin.fit(train[order], data.train_labels[order], batch_size=16, shuffle=False, verbose=0)
        loss, accuracy = twin.evaluate(train, data.train_labels, verbose=0)
        assert abs(row.loss - loss) < 1e-4
        assert row.accuracy == pytest.approx(accuracy)
        val_loss, _ = twin.evaluate(held, data.held_labels, verbose=0)
        assert abs(row.val_loss - val_loss) < 1e-4
    np.testing.assert_allclose(
        training.readout().logits(data.train), twin.predict(train, verbose=0), atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("kind", ["block", "dense"])
def test_the_standardisation_is_folded_into_the_first_new_layer(kind: str) -> None:
    data, (network, n_new) = examples(), start(kind)
    training = HeadTraining(data, network, n_new, Finetune(epochs=2), "key")
    row = [training.epoch() for _ in range(2)][-1]
    model = training._model
    inside = model.predict(data.train.reshape(-1, *network.input_shape), verbose=0)
    logits = training.readout().logits(data.train)
    np.testing.assert_allclose(logits, inside, atol=1e-4, rtol=1e-4)
    assert (logits.argmax(axis=1) == data.train_labels).mean() == pytest.approx(row.accuracy)


def weights(head: Head) -> list[Array]:
    return [layer.kernel for layer in head.network.layers if isinstance(layer, WEIGHTED)]


def trained(epochs: int, key: str = "key", kind: str = "block", mirrored: bool = False) -> HeadTraining:
    network, n_new = start(kind)
    settings = Finetune(epochs=6, learning_rate=0.01, mirror=mirrored)
    training = HeadTraining(examples(mirrored=mirrored), network, n_new, settings, key)
    for _ in range(epochs):
        training.epoch()
    return training


@pytest.mark.parametrize("kind", ["block", "dense"])
def test_what_goes_on_from_a_state_ends_where_training_in_one_go_ends(kind: str) -> None:
    state = trained(2, kind=kind).state()
    later = trained(0, kind=kind)
    later.restore(state)
    for _ in range(4):
        row = later.epoch()
    assert row.epoch == 6
    for ours, theirs in zip(weights(later.readout()), weights(trained(6, kind=kind).readout()), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_state_of_another_head_changes_nothing() -> None:
    training = trained(1)
    before = weights(training.readout())
    with pytest.raises((KeyError, ValueError)):
        training.restore(trained(1, kind="dense").state())
    for ours, theirs in zip(before, weights(training.readout()), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_trainings_side_by_side_do_not_touch_each_other() -> None:
    first, second = trained(0), trained(0, key="other")
    for _ in range(3):
        first.epoch()
        second.epoch()
    for training, key in ((first, "key"), (second, "other")):
        for ours, theirs in zip(weights(training.readout()), weights(trained(3, key).readout()), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_mirrored_images_are_seen_by_an_even_chance_each_once_an_epoch() -> None:
    data = examples(500, mirrored=True)
    seen = np.zeros(len(data.train))
    for epoch in range(40):
        order = data.order(generator("head epoch", "key", epoch))
        assert sorted(order % data.count) == list(range(data.count))
        seen[order] += 1
    assert 0.48 < seen[data.count :].sum() / seen.sum() < 0.52
    assert not np.array_equal(
        weights(trained(2, mirrored=True).readout())[0], weights(trained(2).readout())[0]
    )


def test_the_learning_rate_falls_as_half_a_cosine() -> None:
    settings = Finetune(epochs=4, learning_rate=0.1, learning_rate_schedule="cosine")
    found = np.concatenate([rates(settings, epoch, 5) for epoch in range(4)])
    expected = [0.05 * (1 + np.cos(np.pi * step / 20)) for step in range(20)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert set(rates(Finetune(learning_rate=0.1), 2, 5)) == {np.float32(0.1)}


def test_a_training_that_runs_away_ends_with_its_epoch_and_the_remedy() -> None:
    network, n_new = start("block")
    training = HeadTraining(examples(), network, n_new, Finetune(epochs=3, learning_rate=1e30), "key")
    with pytest.raises(WorkError, match=r"after epoch \d the loss is .*; lower finetune\.learning_rate"):
        [training.epoch() for _ in range(3)]


@pytest.mark.parametrize("kind", ["block", "dense"])
def test_bytes_round_trip_and_are_stable(kind: str) -> None:
    head = Head(start(kind)[0])
    again = trained_of(head.to_bytes())
    assert isinstance(again, Head)
    assert again.to_bytes() == head.to_bytes()
    features = examples().train
    np.testing.assert_array_equal(again.logits(features), head.logits(features))
    assert isinstance(layers_of(again), Network)
