"""Models that Keras saved, and networks of keras.applications: their features are Keras' own, or they are refused by layer."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as k

from sweep.errors import InputError
from sweep.lrp import Add, forward
from sweep.models.source import Preprocessing, WeightSource
from sweep.models.weights import file_of_weights, open_weights
from sweep.plan import make_plan
from sweep.study import Pretraining
from tests.studies import SmallStudy

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def residual(*first: Any, size: int | None = 32, last: Any = None, classes: int = 4, seed: int = 1) -> Any:
    """A small residual network with random weights and statistics."""
    start = k.Input((size, size, 3))
    x = start
    for layer in first:
        x = layer(x)
    x = k.ReLU(name="relu")(k.BatchNormalization()(k.Conv2D(4, 3, padding="same", name="first")(x)))
    y = k.BatchNormalization()(k.Conv2D(6, 3, strides=2, padding="same")(x))
    x = k.ReLU(name="joined")(k.Add()([y, k.Conv2D(6, 1, strides=2)(x)]))
    x = k.GlobalAveragePooling2D(name="pooled")(x)
    x = (last or k.Dense(5, activation="relu", name="hidden"))(x)
    model = keras.Model(start, k.Dense(classes, activation="softmax", name="classes")(x))
    draws = np.random.default_rng(seed)
    for layer in model.layers:
        if not isinstance(layer, k.Normalization):
            for variable in layer.weights:
                values = 0.3 * draws.standard_normal(variable.shape)
                variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def save(model: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras 3.15 on NumPy 2
        model.save(path)


def opened(weights: str, base: Path, **settings: Any) -> WeightSource:
    return open_weights(Pretraining.model_validate({"weights": weights, **settings}), base, "level")


def features(source: WeightSource, size: int = 32) -> Any:
    return forward(source.network(size), source.preprocessing(PIXELS))


DECLARED = {"channel_order": "RGB", "mean": [120, 110, 100], "scale": 0.01}


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_features_are_what_the_last_dense_layer_sees(tmp_path: Path, name: str) -> None:
    model = residual()
    save(model, tmp_path / name)
    source = opened(f"keras:{name}", tmp_path, **DECLARED)
    inputs = (PIXELS - np.array([120, 110, 100])) * 0.01
    hidden = keras.Model(model.inputs[0], model.get_layer("hidden").output)
    np.testing.assert_allclose(features(source), np.asarray(hidden(inputs)), rtol=1e-4, atol=1e-5)
    assert source.trained_size == 32
    pooled = opened(f"keras:{name}", tmp_path, features="joined", **DECLARED)
    joined = keras.Model(model.inputs[0], model.get_layer("joined").output)
    np.testing.assert_allclose(features(pooled), np.asarray(joined(inputs)), rtol=1e-4, atol=1e-5)
    assert pooled.key != source.key


def normalization() -> Any:
    return k.Normalization(mean=[120.0, 110.0, 100.0], variance=[400.0, 900.0, 1600.0])


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: k.Rescaling(1 / 255), Preprocessing("RGB", (0, 0, 0), 1 / 255)),
        (lambda: k.Rescaling(1 / 127.5, offset=-1), Preprocessing("RGB", (127.5, 127.5, 127.5), 1 / 127.5)),
        (normalization, Preprocessing("RGB", (120, 110, 100), 1.0, (20, 30, 40))),
    ],
)
def test_a_first_layer_that_rescales_is_the_preprocessing(
    tmp_path: Path, build: Callable[[], Any], expected: Preprocessing
) -> None:
    model = residual(build())
    save(model, tmp_path / "model.keras")
    source = opened("keras:model.keras", tmp_path)
    assert source.is_declared
    assert source.preprocessing.mean == pytest.approx(expected.mean)
    assert source.preprocessing.scale == pytest.approx(expected.scale)
    assert source.preprocessing.deviation == pytest.approx(expected.deviation)
    hidden = keras.Model(model.inputs[0], model.get_layer("hidden").output)
    np.testing.assert_allclose(
        features(source), np.asarray(hidden(PIXELS.astype(np.float32))), rtol=1e-4, atol=1e-5
    )


def test_a_file_that_says_nothing_of_its_input_needs_a_study_that_does(
    small_study: SmallStudy, tmp_path: Path
) -> None:
    save(residual(), tmp_path / "model.keras")
    path = tmp_path / "model.keras"
    plain = {"weights": f"keras:{path}"}
    factors = {"pretraining": {"own": plain}}
    with pytest.raises(
        InputError, match=r"own: .* does not say what input it was trained on; give channel_order and"
    ):
        make_plan(small_study.changed(factors=factors).path)
    plan = make_plan(small_study.changed(factors={"pretraining": {"own": plain | DECLARED}}).path)
    assert [type(layer) for layer in plan.load_networks()["own"].layers].count(Add) == 1


def test_the_images_size_is_checked_where_the_file_fixes_it(tmp_path: Path) -> None:
    save(residual(), tmp_path / "fixed.keras")
    with pytest.raises(InputError, match=r"takes images of 32 px only; set dataset.input_size to 32"):
        opened("keras:fixed.keras", tmp_path, **DECLARED).network(64)
    save(residual(size=None), tmp_path / "open.keras")
    source = opened("keras:open.keras", tmp_path, **DECLARED)
    assert source.trained_size is None
    assert source.network(64).input_shape == (64, 64, 3)


def test_what_cannot_be_read_is_named_by_layer_with_what_to_do(tmp_path: Path) -> None:
    save(residual(last=k.Dense(5, activation="tanh", name="odd")), tmp_path / "model.keras")
    with pytest.raises(
        InputError,
        match=r"^factors\.pretraining\.level: .*model\.keras: layer 'odd' \(Dense\) has the activation 'tanh'.*; name an "
        "earlier layer in features, or save the model without it$",
    ):
        opened("keras:model.keras", tmp_path, **DECLARED).network(32)
    assert opened("keras:model.keras", tmp_path, features="pooled", **DECLARED).network(32).output_shape == (
        6,
    )
    with pytest.raises(
        InputError, match=r"no layer is named 'pool'; the last ones are .*pooled, odd, classes"
    ):
        opened("keras:model.keras", tmp_path, features="pool", **DECLARED).network(32)


def lambda_layer(path: Path) -> None:
    start = k.Input((32, 32, 3))
    save(keras.Model(start, k.Flatten()(k.Lambda(lambda x: x)(start))), path)


def not_an_archive(path: Path) -> None:
    path.write_text("no archive")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(lambda_layer, "Keras cannot read it: .*"), (not_an_archive, "not a Sequential or Functional")],
)
def test_files_that_are_unsafe_or_broken_are_refused(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(tmp_path / "model.keras")
    with pytest.raises(InputError, match=words) as refused:
        opened("keras:model.keras", tmp_path, **DECLARED).network(32)
    assert str(refused.value).startswith("factors.pretraining.level: ")
    assert "\n" not in str(refused.value)


def test_an_untrained_twin_has_the_layers_of_another_source(tmp_path: Path) -> None:
    save(residual(), tmp_path / "model.keras")
    trained = opened("keras:model.keras", tmp_path, **DECLARED)
    twins = [opened(f"random:{seed}:keras:model.keras", tmp_path, **DECLARED) for seed in (1, 1, 2)]
    first, again, other = (source.network(32) for source in twins)
    assert first.shapes == trained.network(32).shapes
    np.testing.assert_array_equal(first.first_kernel, again.first_kernel)
    assert not np.array_equal(first.first_kernel, other.first_kernel)
    assert len({trained.key, *(source.key for source in twins)}) == 3
    assert file_of_weights(Pretraining(weights="random:1:keras:model.keras")) == "model.keras"


def test_networks_of_keras_applications_have_their_preprocessing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = keras.applications.MobileNet

    def without_weights(weights: str, **settings: Any) -> Any:
        assert weights == "imagenet"
        return whole(weights=None, **settings)

    monkeypatch.setattr(keras.applications, "MobileNet", without_weights)
    source = opened("keras:MobileNet", tmp_path)
    assert source.trained_size == 224
    # Its own preprocessing, of float pixels.
    wanted = keras.applications.mobilenet.preprocess_input(PIXELS.astype(np.float32))
    np.testing.assert_allclose(source.preprocessing(PIXELS), wanted, atol=1e-5)
    assert source.network(32).output_shape == (1024,)
    with pytest.raises(
        InputError, match="'EfficientNetB0' is not among those that can be read; known: VGG16, VGG19"
    ):
        opened("keras:EfficientNetB0", tmp_path)


@pytest.mark.parametrize(
    ("name", "module"), [("ResNet50", "resnet50"), ("ResNet50V2", "resnet_v2"), ("DenseNet121", "densenet")]
)
def test_preprocessing_is_that_of_keras(tmp_path: Path, name: str, module: str) -> None:
    wanted = getattr(keras.applications, module).preprocess_input(PIXELS.astype(np.float32))
    np.testing.assert_allclose(opened(f"keras:{name}", tmp_path).preprocessing(PIXELS), wanted, atol=1e-4)
