"""Readout training against Keras' own Adam, and the folding of the standardisation."""

from collections.abc import Callable

import numpy as np
import pytest

from sweep.errors import WorkError
from sweep.keys import generator
from sweep.numerics.readout import Examples, Readout, ReadoutTraining
from sweep.study import Finetune


def problem(images: int = 60, width: int = 40, classes: int = 5) -> tuple[np.ndarray, ...]:
    draws = np.random.default_rng(3)
    labels = draws.integers(0, classes, images)
    features = np.maximum(
        draws.normal(size=(images, width)) + 2 * draws.normal(size=(classes, width))[labels], 0
    )
    features[:, 7] = 0  # a dead unit
    return features.astype(np.float32), labels, np.arange(images) % 5 == 0


@pytest.mark.parametrize("batch_size", [16, 13, 200])
def test_training_equals_keras_step_by_step(batch_size: int) -> None:
    import keras

    features, labels, validation = problem()
    settings = Finetune(epochs=3, batch_size=batch_size, learning_rate=0.01, standardize=False)
    training = ReadoutTraining(Examples(features, labels, validation), 5, settings, "key")
    start = training.readout()
    rows = [training.epoch() for _ in range(3)]

    layer = keras.layers.Dense(5)
    twin = keras.Sequential([keras.Input((40,)), layer])
    layer.set_weights([start.kernel, start.bias])
    twin.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    draws = generator("readout", "key")
    limit = np.sqrt(6 / 45)
    np.testing.assert_array_equal(draws.uniform(-limit, limit, (40, 5)).astype(np.float32), start.kernel)
    train, train_labels = features[~validation], labels[~validation]
    for row in rows:
        order = draws.permutation(len(train))
        for begin in range(0, len(train), batch_size):
            chosen = order[begin : begin + batch_size]
            twin.train_on_batch(train[chosen], train_labels[chosen])
        loss, accuracy = twin.evaluate(train, train_labels, verbose=0)
        assert abs(row.loss - loss) < 1e-4
        assert row.accuracy == pytest.approx(accuracy)
        val_loss, val_accuracy = twin.evaluate(features[validation], labels[validation], verbose=0)
        assert abs(row.val_loss - val_loss) < 1e-4
        assert row.val_accuracy == pytest.approx(val_accuracy)
    np.testing.assert_allclose(training.readout().kernel, layer.get_weights()[0], atol=1e-4)


def test_the_folded_readout_gives_the_accuracies_that_training_saw() -> None:
    features, labels, validation = problem()
    training = ReadoutTraining(Examples(features, labels, validation), 5, Finetune(epochs=20), "key")
    last = [training.epoch() for _ in range(20)][-1]
    readout = training.readout()
    correct = readout.logits(features).argmax(axis=1) == labels
    assert correct[~validation].mean() == pytest.approx(last.accuracy)
    assert correct[validation].mean() == pytest.approx(last.val_accuracy)
    assert np.isfinite(readout.kernel).all()
    assert (readout.kernel[7] == 0).all()


def test_a_key_gives_one_training_and_another_key_another() -> None:
    features, labels, validation = problem()

    def train(key: str) -> Readout:
        training = ReadoutTraining(Examples(features, labels, validation), 5, Finetune(epochs=2), key)
        training.epoch()
        training.epoch()
        return training.readout()

    np.testing.assert_array_equal(train("a").kernel, train("a").kernel)
    assert not np.array_equal(train("a").kernel, train("b").kernel)


def test_a_training_that_runs_away_ends_with_its_epoch_and_the_remedy() -> None:
    features, labels, validation = problem()
    settings = Finetune(epochs=3, learning_rate=1e38, standardize=False)
    training = ReadoutTraining(Examples(features, labels, validation), 5, settings, "key")
    with pytest.raises(WorkError, match=r"after epoch \d the loss is .*; lower finetune\.learning_rate"):
        [training.epoch() for _ in range(3)]


def test_weights_that_folding_carries_beyond_float32_are_not_given_out() -> None:
    features, labels, validation = problem()
    training = ReadoutTraining(
        Examples(features * 1e-15, labels, validation), 5, Finetune(learning_rate=1e30), "key"
    )
    training.epoch()
    with pytest.raises(WorkError, match="the trained weights are not finite"):
        training.readout()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda features: np.where(features > 1, np.nan, features), "the features are not finite"),
        (lambda features: np.full_like(features, 3), "the training images have the same features"),
        (lambda features: features * np.float32(1e30), "vary too much or too little for float32"),
        (lambda features: features * np.float32(1e-37), "vary too much or too little for float32"),
    ],
)
def test_features_that_teach_nothing(spoil: Callable[[np.ndarray], np.ndarray], expected: str) -> None:
    features, labels, validation = problem()
    with pytest.raises(WorkError, match=expected):
        ReadoutTraining(Examples(spoil(features), labels, validation), 5, Finetune(), "key")


def test_bytes_round_trip_and_are_stable() -> None:
    readout = Readout(np.ones((3, 2), np.float32), np.zeros(2, np.float32))
    again = Readout.from_bytes(readout.to_bytes())
    np.testing.assert_array_equal(again.kernel, readout.kernel)
    assert again.to_bytes() == readout.to_bytes()
