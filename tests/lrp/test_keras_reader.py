import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as k

from sweep.errors import InputError
from sweep.lrp import DepthwiseConv, forward, from_keras, relevance

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


def residual() -> Any:
    start = k.Input((8, 8, 3))
    x = k.ReLU()(k.BatchNormalization()(k.Conv2D(4, 3, padding="same")(start)))
    y = k.BatchNormalization()(k.Conv2D(6, 3, strides=2, padding="same")(x))
    short = k.BatchNormalization()(k.Conv2D(6, 1, strides=2)(x))
    x = k.ReLU()(k.Add()([y, short, k.Conv2D(6, 1, strides=2, name="third")(x)]))
    inner_start = k.Input((4, 4, 6))
    inner = keras.Model(inner_start, k.Conv2D(6, 3, padding="same")(inner_start) + inner_start)
    x = k.BatchNormalization(name="alone")(inner(x))
    return randomized(keras.Model(start, k.Dense(3)(k.GlobalAveragePooling2D()(k.ReLU()(x)))))


def beside() -> Any:
    start = k.Input((8, 8, 3))
    x = k.Conv2D(4, 3, padding="same", activation="relu")(start)
    x = k.Concatenate()([x, start, k.AveragePooling2D(3, 1, padding="same")(x)])
    x = k.ReLU()(k.BatchNormalization()(x))
    flat = k.Flatten()(x)
    return randomized(keras.Model(start, k.Concatenate()([k.Dense(2)(flat), k.Dense(3)(flat)])))


def squeezed() -> Any:
    start = k.Input((8, 8, 3))
    x = k.Conv2D(4, 3, activation="relu")(start)
    pooled = k.GlobalAveragePooling2D(keepdims=True)(x)
    x = k.Multiply()([x, k.Conv2D(4, 1)(pooled)])
    return randomized(keras.Model(start, k.Dense(2)(k.Flatten()(x))))


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
    "a residual block": (residual, False),
    "tensors beside each other": (beside, False),
    "squeezed": (squeezed, False),
    "depthwise": (
        lambda: sequential(
            k.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same"),
            k.BatchNormalization(),
            k.ReLU(max_value=6),
            k.BatchNormalization(),
            k.SeparableConv2D(4, (3, 2), depth_multiplier=2, use_bias=False),
            k.LeakyReLU(0.3),
            k.BatchNormalization(),
            k.DepthwiseConv2D(2, padding="valid"),
            k.PReLU(shared_axes=[1, 2]),
            k.PReLU(),
            k.Conv2D(2, 1, strides=2, activation="leaky_relu"),
            k.ReLU(negative_slope=0.1),
        ),
        False,
    ),
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
    assert isinstance(layer, DepthwiseConv)
    assert (layer.name, layer.kernel.shape) == ("norm", (1, 1, 3, 1))


def test_the_input_size_can_be_given() -> None:
    model = keras.Sequential([k.Input((None, None, 3)), k.Conv2D(2, 3)])
    with pytest.raises(InputError, match="pass input_shape"):
        from_keras(model)
    assert from_keras(model, (7, 9, 3)).output_shape == (5, 7, 2)
    fixed = keras.Sequential([k.Input((8, 8, 3)), k.Conv2D(2, 3)])
    with pytest.raises(InputError, match=r"takes \(8, 8, 3\), not the input_shape \(7, 9, 3\)"):
        from_keras(fixed, (7, 9, 3))


def with_lora() -> Any:
    model = sequential(k.Conv2D(4, 3, name="conv"), k.Flatten(), k.Dense(2, name="dense"))
    for name in ("conv", "dense"):
        model.get_layer(name).enable_lora(2)
    return randomized(model)


def shared_layer() -> Any:
    twice, start = k.Conv2D(3, 3, padding="same"), k.Input((8, 8, 3))
    return randomized(keras.Model(start, k.Flatten()(twice(k.ReLU()(twice(start))))))


def of_numbers() -> Any:
    start = k.Input((8, 8, 3), dtype="uint8")
    return randomized(keras.Model(start, k.Dense(2)(k.Flatten()(start))))


READ_RIGHT: dict[str, Callable[[], Any]] = {
    "LoRA": with_lora,
    "a weight constraint": lambda: sequential(k.Conv2D(4, 3, kernel_constraint="non_neg")),
    "relu as a function": lambda: sequential(k.Conv2D(4, 3, activation=keras.activations.relu)),
    "relu of keras.ops": lambda: sequential(k.Conv2D(4, 3, activation=keras.ops.relu)),
    "relu as a layer": lambda: sequential(k.Conv2D(4, 3, activation=k.ReLU())),
    "an activation as a layer": lambda: sequential(k.Activation(k.ReLU()), k.Flatten()),
    "no activation": lambda: sequential(k.Activation(None), k.Conv2D(4, 3, activation=k.Identity())),
    "a shared layer": shared_layer,
    "whole numbers": of_numbers,
    "a batch of one": lambda: randomized(
        keras.Sequential([k.Input(batch_shape=(1, 8, 8, 3)), k.Conv2D(2, 3)])
    ),
    "dilation and no bias": lambda: sequential(k.Conv2D(4, 3, dilation_rate=(2, 1), use_bias=False)),
    "noise that is off": lambda: sequential(k.GaussianNoise(0.5), k.SpatialDropout2D(0.5)),
}


@pytest.mark.parametrize("name", READ_RIGHT)
def test_what_is_given_in_another_way_is_read_right(name: str) -> None:
    model = READ_RIGHT[name]()
    network = from_keras(model)
    images = RNG.integers(0, 5, (1, *network.input_shape)).astype(np.float32)
    np.testing.assert_allclose(forward(network, images), np.asarray(model(images)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_models_of_another_precision_are_read_with_the_weights_that_they_have(dtype: str) -> None:
    model = sequential(
        k.Conv2D(4, 3, dtype=dtype), k.Flatten(), k.Dense(2, dtype=dtype, activation="softmax")
    )
    kernel = from_keras(model).layers[0].kernel  # type: ignore[union-attr]
    np.testing.assert_array_equal(kernel, np.asarray(model.layers[0].kernel).astype(np.float32))


def test_a_softmax_given_as_a_layer_is_stripped() -> None:
    model = sequential(k.Flatten(), k.Dense(3, activation=k.Softmax()))
    assert [type(layer).__name__ for layer in from_keras(model).layers] == ["Flatten", "Dense"]


def quantised(mode: str) -> Any:
    model = sequential(k.Flatten(), k.Dense(4, name="odd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras 3.15's quantisers on NumPy 2
        model.get_layer("odd").quantize(mode)
    return model


def relu(x: Any) -> Any:
    return 2 * keras.ops.maximum(x, 0)


def linear(x: Any) -> Any:
    return 2 * x


class Dense(k.Layer):  # type: ignore[misc]
    """Another library's layer, which has the name of one of Keras'."""

    kernel, bias, use_bias, activation = np.eye(192, dtype=np.float32), None, False, keras.activations.linear

    def call(self, inputs: Any) -> Any:
        return 3 * inputs


class Scaled(k.Conv2D):  # type: ignore[misc]
    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return super().convolution_op(inputs, 2 * kernel)


class OwnSequential(keras.Sequential):  # type: ignore[misc]
    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return 2 * super().call(inputs)


def training_always() -> Any:
    start = k.Input((8, 8, 3))
    return keras.Model(start, k.Flatten()(k.BatchNormalization(name="odd")(start, training=True)))


def patched() -> Any:
    model = sequential(k.Flatten(name="flat"), k.Dense(4))
    dense = model.layers[-1]
    call = dense.call
    dense.call = lambda *inputs, **more: 2 * call(*inputs, **more)
    return model


def not_finite() -> Any:
    model = sequential(k.Flatten(), k.Dense(2, name="odd"))
    model.get_layer("odd").bias.assign([np.nan, 0])
    return model


class Doubled(k.Dense):  # type: ignore[misc]
    def call(self, inputs: Any, training: Any = None) -> Any:
        return 2 * super().call(inputs)


class Subclassed(keras.Model):  # type: ignore[misc]
    def call(self, inputs: Any) -> Any:
        return inputs


def joined_by(layer: Any) -> Any:
    start = k.Input((8, 8, 3))
    return keras.Model(start, layer([k.Conv2D(3, 1)(start), start]))


def scaled_by_a_number() -> Any:
    start = k.Input((8, 8, 3))
    return keras.Model(start, keras.src.ops.numpy.Multiply(name="odd")(k.ReLU()(start), 2.0))


def along_rows() -> Any:
    return joined_by(k.Concatenate(axis=1, name="odd"))


def two_outputs() -> Any:
    start = k.Input((8, 8, 3))
    return keras.Model(start, [k.Flatten()(start), k.ReLU()(start)])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: sequential(k.ELU(name="odd")), "'odd' \\(ELU\\) is of a kind"),
        (scaled_by_a_number, "'odd' \\(Multiply\\) joins a tensor with something else"),
        (along_rows, "'odd'.*joins along axis 1"),
        (lambda: joined_by(k.Average(name="odd")), "'odd' \\(Average\\) joins 2 inputs"),
        (lambda: sequential(k.Conv2D(3, 3, groups=3, name="odd")), "'odd'.*groups"),
        (lambda: sequential(k.Conv2D(3, 3, activation="tanh", name="odd")), "'odd'.*activation 'tanh'"),
        (lambda: sequential(k.ReLU(threshold=1, name="odd")), "'odd'.*replace it by a plain one"),
        (lambda: sequential(k.Softmax(name="odd"), k.Flatten()), "'odd'.*not the model's last step"),
        (lambda: sequential(k.Dense(3, name="odd")), "'odd'.*flatten it first"),
        (lambda: sequential(k.Reshape((4, 4, 12), name="odd")), "'odd'.*only flattening"),
        (lambda: sequential(k.BatchNormalization(axis=1, name="odd")), "'odd'.*axis 1"),
        (
            lambda: sequential(k.MaxPooling2D(data_format="channels_first", name="odd")),
            "'odd'.*channels first",
        ),
        (lambda: sequential(k.Flatten(), Doubled(2, name="odd")), "'odd' \\(Doubled\\) is of a kind"),
        (lambda: quantised("int8"), "'odd'.*is quantised \\(int8\\)"),
        (lambda: quantised("int4"), "'odd'.*is quantised \\(int4\\)"),
        (lambda: quantised("float8"), "'odd'.*is quantised \\(float8\\)"),
        (
            lambda: sequential(k.SpectralNormalization(k.Conv2D(3, 3), name="odd")),
            "'odd' \\(SpectralNormalization\\) is of a kind",
        ),
        (lambda: sequential(k.Conv2D(3, 3, activation=relu, name="odd")), "'odd'.*none of Keras'"),
        (lambda: sequential(k.Activation(linear, name="odd")), "'odd'.*none of Keras'"),
        (
            lambda: sequential(k.Conv2D(3, 3, activation=k.ReLU(threshold=1, name="odd"))),
            "'odd'.*replace it by a plain one",
        ),
        (
            lambda: sequential(k.Conv2D(3, 3, activation=k.ELU(), name="odd")),
            "'odd'.*activation ELU",
        ),
        (lambda: sequential(k.Softmax(axis=1, name="odd")), "'odd'.*axis 1, not over the classes"),
        (lambda: sequential(k.Rescaling(1 / 255, name="odd")), "'odd' \\(Rescaling\\) is of a kind"),
        (lambda: sequential(k.Normalization(mean=1, variance=4, name="odd")), "'odd'.*is of a kind"),
        (lambda: sequential(k.Masking(name="odd")), "'odd' \\(Masking\\) is of a kind"),
        (lambda: sequential(k.RandomFlip(name="odd")), "'odd' \\(RandomFlip\\) is of a kind"),
        (lambda: sequential(k.Flatten(), Dense(name="odd")), "'odd' \\(Dense\\) is of a kind"),
        (lambda: sequential(Scaled(2, 3, name="odd")), "'odd' \\(Scaled\\) is of a kind"),
        (lambda: OwnSequential([k.Input((8, 8, 3)), k.Flatten()], name="own"), "'own' has a forward pass"),
        (training_always, "'odd'.*is called with training=True"),
        (patched, "computes something else than its layers say: .* differs"),
        (not_finite, "'odd'.*not finite"),
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
