from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as k

from sweep.errors import InputError
from sweep.lrp import Conv, forward, from_keras, relevance

RNG = np.random.default_rng(0)


def randomized(model: Any) -> Any:
    for variable in model.weights:
        values = RNG.standard_normal(variable.shape) * 0.3
        variable.assign(np.abs(values) + 0.1 if "variance" in variable.path else values)
    return model


def sequential(*layers: Any, shape: tuple[int, ...] = (8, 8, 3)) -> Any:
    return randomized(keras.Sequential([k.Input(shape), *layers]))


def functional() -> Any:
    start = k.Input((8, 8, 3))
    x = k.Conv2D(4, 3, padding="same", use_bias=False)(start)
    x = k.ReLU()(k.BatchNormalization()(x))
    x = k.AveragePooling2D(3, 2, padding="same")(k.Dropout(0.4)(x))
    x = k.Conv2D(3, (2, 3), padding="valid", dilation_rate=(1, 1), strides=(2, 1), activation="relu")(x)
    return randomized(keras.Model(start, k.Dense(3)(k.Flatten()(x))))


def nested() -> Any:
    inner = keras.Sequential(
        [k.Input((8, 8, 3)), k.Conv2D(4, 3, activation="relu", name="inner"), k.MaxPooling2D()]
    )
    middle_start = k.Input((8, 8, 3))
    middle = keras.Model(middle_start, k.GlobalAveragePooling2D()(inner(middle_start)))
    start = k.Input((8, 8, 3))
    return randomized(keras.Model(start, k.Softmax()(k.Dense(5, name="outer")(middle(start)))))


def batch_norms() -> Any:
    return sequential(
        k.BatchNormalization(),
        k.Conv2D(4, 3, padding="valid"),
        k.BatchNormalization(scale=False),
        k.BatchNormalization(center=False),
        k.Activation("relu"),
        k.BatchNormalization(),
        k.Conv2D(4, 3, padding="same", activation="relu"),
        k.BatchNormalization(),
        k.MaxPooling2D(),
        k.Flatten(),
        k.BatchNormalization(),
        k.Dropout(0.2),
        k.Dense(4, activation="relu"),
        k.BatchNormalization(),
    )


MODELS: dict[str, tuple[Callable[[], Any], bool]] = {
    "plain": (
        lambda: sequential(k.Conv2D(4, 3, activation="relu"), k.MaxPooling2D(3, 1), k.Flatten(), k.Dense(2)),
        False,
    ),
    "functional": (functional, False),
    "nested": (nested, True),
    "batch norm": (batch_norms, False),
    "softmax activation": (
        lambda: sequential(k.Flatten(), k.Dense(3, activation="softmax"), k.Dropout(0.1)),
        True,
    ),
    "global max": (
        lambda: sequential(k.ZeroPadding2D(((1, 0), (0, 2))), k.GlobalMaxPooling2D(), k.Dense(2)),
        False,
    ),
    "global, kept": (lambda: sequential(k.GlobalAveragePooling2D(keepdims=True), k.Conv2D(2, 1)), False),
    "reshape": (
        lambda: sequential(k.Conv2D(2, 3, dilation_rate=2, padding="same"), k.Reshape((-1,)), k.Dense(2)),
        False,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_network_computes_what_the_model_does(name: str) -> None:
    build, softmax = MODELS[name]
    model = build()
    network = from_keras(model)
    images = RNG.standard_normal((3, *network.input_shape)).astype(np.float32)
    output = forward(network, images)
    if softmax:
        output = np.exp(output) / np.exp(output).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(output, np.asarray(model(images)), atol=2e-6)
    assert np.isfinite(relevance(network, images, "all", "epsilon_plus")).all()


def test_names_are_kept_and_weights_copied() -> None:
    model = nested()
    network = from_keras(model)
    assert [layer.name for layer in network.layers if hasattr(layer, "kernel")] == ["inner", "outer"]
    kernel = network.layers[0].kernel.copy()  # type: ignore[union-attr]
    for variable in model.weights:
        variable.assign(variable * 0)
    np.testing.assert_array_equal(network.layers[0].kernel, kernel)  # type: ignore[union-attr]


def test_batch_norms_next_to_a_linear_layer_vanish() -> None:
    model = sequential(
        k.Conv2D(4, 3), k.BatchNormalization(), k.ReLU(), k.Flatten(), k.BatchNormalization(), k.Dense(2)
    )
    kinds = [type(layer).__name__ for layer in from_keras(model).layers]
    assert kinds == ["Conv", "ReLU", "Flatten", "Dense"]


def test_a_batch_norm_that_padding_would_see_becomes_a_convolution() -> None:
    model = sequential(k.ReLU(), k.BatchNormalization(name="norm"), k.Conv2D(2, 3, padding="same"))
    layer = from_keras(model).layers[1]
    assert isinstance(layer, Conv)
    assert (layer.name, layer.kernel.shape) == ("norm", (1, 1, 3, 3))


def test_the_input_size_can_be_given() -> None:
    model = keras.Sequential([k.Input((None, None, 3)), k.Conv2D(2, 3)])
    with pytest.raises(InputError, match="pass input_shape"):
        from_keras(model)
    assert from_keras(model, (7, 9, 3)).output_shape == (5, 7, 2)


class Doubled(k.Dense):  # type: ignore[misc]
    def call(self, inputs: Any, training: Any = None) -> Any:
        return 2 * super().call(inputs)


class Subclassed(keras.Model):  # type: ignore[misc]
    def call(self, inputs: Any) -> Any:
        return inputs


def joining() -> Any:
    start = k.Input((8, 8, 3))
    return keras.Model(start, k.Add(name="odd")([k.Conv2D(3, 1)(start), start]))


def two_outputs() -> Any:
    start = k.Input((8, 8, 3))
    return keras.Model(start, [k.Flatten()(start), k.ReLU()(start)])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: sequential(k.SeparableConv2D(3, 3, name="odd")), "'odd' \\(SeparableConv2D\\) is of a kind"),
        (lambda: sequential(k.DepthwiseConv2D(3, name="odd")), "'odd' \\(DepthwiseConv2D\\) is of a kind"),
        (lambda: sequential(k.Conv2D(3, 3, groups=3, name="odd")), "'odd'.*groups"),
        (lambda: sequential(k.Conv2D(3, 3, activation="tanh", name="odd")), "'odd'.*activation 'tanh'"),
        (lambda: sequential(k.ReLU(max_value=6, name="odd")), "'odd'.*not the plain relu"),
        (lambda: sequential(k.Softmax(name="odd"), k.Flatten()), "'odd'.*not the model's last step"),
        (lambda: sequential(k.Dense(3, name="odd")), "'odd'.*flatten it first"),
        (lambda: sequential(k.Reshape((4, 4, 12), name="odd")), "'odd'.*only flattening"),
        (lambda: sequential(k.BatchNormalization(axis=1, name="odd")), "'odd'.*axis 1"),
        (
            lambda: sequential(k.MaxPooling2D(data_format="channels_first", name="odd")),
            "'odd'.*channels first",
        ),
        (lambda: sequential(k.Flatten(), Doubled(2, name="odd")), "'odd' \\(Doubled\\) is of a kind"),
        (joining, "'odd' \\(Add\\) joins 2 inputs"),
        (two_outputs, "one input and one output"),
        (lambda: keras.Sequential([k.Flatten()]), "is not built"),
        (lambda: sequential(k.Dense(2), shape=(4,)), "not images"),
        (lambda: Subclassed(name="own"), "'own' is neither Sequential nor Functional"),
        (lambda: "model.keras", "needs a Keras 3 model, not builtins.str"),
    ],
)
def test_what_cannot_be_treated_is_named(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_keras(build())
