"""Weight sources: what is read, and that a wrong file is named with its layer."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sweep.errors import InputError
from sweep.models.network import keras_model
from sweep.models.source import Preprocessing
from sweep.models.vgg import LAYERS, VGG16_WIDTHS
from sweep.models.weights import open_weights
from sweep.study import Pretraining
from tests.studies import narrow_arrays, narrow_layers, write_weights


def opened(weights: str, base: Path, **overrides: object) -> object:
    return open_weights(Pretraining.model_validate({"weights": weights, **overrides}), base, "level")


def test_npz_weights_are_read_as_they_are(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.npz", "w")
    layers = open_weights(Pretraining(weights="npz:w.npz"), tmp_path, "level").load()
    for name, (kernel, bias) in narrow_layers("w").items():
        np.testing.assert_array_equal(layers[name][0], kernel)
        np.testing.assert_array_equal(layers[name][1], bias)


def test_the_key_is_the_content_and_not_the_name(tmp_path: Path) -> None:
    write_weights(tmp_path / "a.npz", "same")
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    write_weights(tmp_path / "c.npz", "other")
    a, b, c = (open_weights(Pretraining(weights=f"npz:{n}.npz"), tmp_path, "l").key for n in "abc")
    assert a == b != c


def test_random_weights_follow_from_the_seed() -> None:
    def load(seed: int) -> np.ndarray:
        return open_weights(Pretraining(weights=f"random:{seed}"), Path(), "l").load()["block5_conv3"][0]

    np.testing.assert_array_equal(load(1), load(1))
    assert not np.array_equal(load(1), load(2))
    kernel = load(1)
    assert kernel.shape == (3, 3, 512, 512)
    assert abs(kernel.std() / np.sqrt(2 / (9 * 512)) - 1) < 0.01


def test_preprocessing_belongs_to_the_file_and_can_be_overridden(tmp_path: Path) -> None:
    arrays = narrow_arrays("w")
    declared = '{"channel_order": "RGB", "mean": [1, 2, 3], "scale": 0.5}'
    np.savez(tmp_path / "w.npz", preprocessing=np.array(declared), **arrays)
    own = open_weights(Pretraining(weights="npz:w.npz"), tmp_path, "l").preprocessing
    assert own == Preprocessing("RGB", (1, 2, 3), 0.5)
    changed = Pretraining(weights="npz:w.npz", channel_order="BGR", mean=(7, 8, 9))
    assert open_weights(changed, tmp_path, "l").preprocessing == Preprocessing("BGR", (7, 8, 9), 0.5)


def test_a_mean_follows_its_channel(tmp_path: Path) -> None:
    """Red's mean is subtracted from red, whichever way the weights and the study file put it."""
    declared = '{"channel_order": "RGB", "mean": [10, 20, 30], "scale": 2}'
    np.savez(tmp_path / "rgb.npz", preprocessing=np.array(declared), **narrow_arrays("w"))
    write_weights(tmp_path / "plain.npz", "w")
    (tmp_path / "face.h5").write_bytes(b"")
    reds = {
        "npz:rgb.npz": 10,
        "npz:plain.npz": 123.68,
        "random:1": 123.68,
        "keras:face.h5": 123.68,
        "keras:imagenet": 123.68,
        "vggface:face.h5": 129.1863,
    }
    red, blue = (np.array([[[channels]]], np.uint8) for channels in ([200, 0, 0], [0, 0, 200]))
    for weights, mean in reds.items():
        for order in (None, "RGB", "BGR"):
            preprocessing = open_weights(
                Pretraining(weights=weights, channel_order=order), tmp_path, "l"
            ).preprocessing
            first = preprocessing.channel_order == "RGB"
            assert order in (None, preprocessing.channel_order)
            found = preprocessing(red)[0, 0, 0, 0 if first else 2] / preprocessing.scale
            assert found == pytest.approx(200 - mean)
            assert preprocessing(blue)[0, 0, 0, 0 if first else 2] / preprocessing.scale == pytest.approx(
                -mean
            )


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (
            '{"channel_order": "RGB", "mean": [1, 2, 3], "scale": 1, "std": [58, 57, 57]}',
            "holds 'std', which is not known",
        ),
        ('{"channel_order": "RGB", "mean": [1, 2, 3], "scale": 0}', "a scale of 0; it must be above 0"),
        ('{"channel_order": "RGB", "mean": [1, 2, 3], "scale": -1}', "a scale of -1; it must be above 0"),
        (
            '{"channel_order": "RGB", "mean": [0.485, 0.456, 0.406], "scale": 4}',
            "not on the scale of pixels, 0 to 255",
        ),
        ('{"channel_order": "RGB", "mean": [-1, 2, 3], "scale": 4}', "not on the scale of pixels, 0 to 255"),
    ],
)
def test_preprocessing_that_cannot_be_meant(tmp_path: Path, declared: str, expected: str) -> None:
    np.savez(tmp_path / "w.npz", preprocessing=np.array(declared), **narrow_arrays("w"))
    with pytest.raises(InputError, match=expected):
        opened("npz:w.npz", tmp_path)


def test_caffe_mode_is_bgr_minus_means() -> None:
    pixels = np.array([[[[10, 20, 30]]]], np.uint8)
    np.testing.assert_allclose(
        Preprocessing()(pixels)[0, 0, 0], [30 - 103.939, 20 - 116.779, 10 - 123.68], rtol=1e-6
    )


def test_bounds_are_the_inputs_of_black_and_white() -> None:
    low, high = Preprocessing("RGB", (10, 20, 30), 2.0).bounds
    np.testing.assert_array_equal(low, [-20, -40, -60])
    np.testing.assert_array_equal(high, [490, 470, 450])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("w.npz", "names no weights; use bundled:NAME, npz:PATH"),
        ("npz:", "names no weights"),
        ("caffe:w", "names no weights"),
        ("random:x", "needs a whole number"),
        ("random:-1", "needs a whole number"),
        ("keras:imagenet2", "no weight file"),
        ("vggface:none.h5", "no weight file"),
        ("bundled:none", "no bundled weights are named 'none'; known: "),
    ],
)
def test_weights_that_do_not_exist(weights: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        opened(weights, tmp_path)
    assert str(caught.value).startswith("factors.pretraining.level: ")


def test_broken_files_name_the_layer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no weight file .*none\.npz"):
        opened("npz:none.npz", tmp_path)
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(InputError, match="not a readable npz file"):
        opened("npz:text.npz", tmp_path)
    arrays = narrow_arrays("w")
    lacking = {name: array for name, array in arrays.items() if not name.startswith("block3_conv2")}
    np.savez(tmp_path / "lacking.npz", **lacking)
    with pytest.raises(InputError, match=r"lacks the array 'block3_conv2/kernel' \(2 missing in all\)"):
        opened("npz:lacking.npz", tmp_path)
    np.savez(tmp_path / "shape.npz", **{**arrays, "block2_conv1/kernel": np.zeros((3, 3, 5, 8), np.float32)})
    with pytest.raises(InputError, match=r"layer block2_conv1: kernel \(3, 3, 5, 8\)"):
        open_weights(Pretraining(weights="npz:shape.npz"), tmp_path, "l").load()
    np.savez(tmp_path / "nan.npz", **{**arrays, "block1_conv1/bias": np.full(4, np.nan, np.float32)})
    with pytest.raises(InputError, match="layer block1_conv1: holds values that are not finite"):
        open_weights(Pretraining(weights="npz:nan.npz"), tmp_path, "l").load()

    np.savez(tmp_path / "zero.npz", **{**arrays, "block4_conv1/kernel": np.zeros((3, 3, 8, 16), np.float32)})
    with pytest.raises(InputError, match="layer block4_conv1: its kernel holds zeros only"):
        open_weights(Pretraining(weights="npz:zero.npz"), tmp_path, "l").load()
    np.savez(tmp_path / "large.npz", **{**arrays, "block1_conv1/bias": np.full(4, 1e300)})
    with pytest.raises(InputError, match="layer block1_conv1: holds values that are not finite"):
        open_weights(Pretraining(weights="npz:large.npz"), tmp_path, "l").load()


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    arrays = narrow_arrays("w")
    np.savez(tmp_path / "p.npz", **{**arrays, "block1_conv1/kernel": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(InputError, match="not a readable npz file"):
        open_weights(Pretraining(weights="npz:p.npz"), tmp_path, "l").load()


@pytest.mark.shared_data
def test_the_imagenet_weights_have_the_published_widths(shared: Path) -> None:
    path = shared / "weights" / "vgg16_imagenet_fp16.npz"
    layers = open_weights(Pretraining(weights=f"npz:{path}"), shared, "l").load()
    assert tuple(layers[name][1].shape[0] for name in LAYERS) == VGG16_WIDTHS


@pytest.fixture
def keras_in_halves() -> Iterator[None]:
    """Keras as someone may have left it: half precision, also as the policy of layers, and channels first."""
    import keras

    before = keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy()
    keras.config.set_floatx("float16")
    keras.config.set_dtype_policy("float16")
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_image_data_format(before[1])
    keras.config.set_dtype_policy(before[2])


@pytest.mark.usefixtures("keras_in_halves")
def test_models_for_keras_are_the_same_whatever_keras_is_set_to() -> None:
    model = keras_model(narrow_layers("w"), 32, np.ones((16, 2), np.float32), np.zeros(2, np.float32))
    assert model.output_shape == (None, 2)
    for name, (kernel, _) in narrow_layers("w").items():
        np.testing.assert_array_equal(model.get_layer(name).get_weights()[0], kernel)


@pytest.mark.usefixtures("keras_in_halves")
def test_weights_from_keras_are_not_rounded_whatever_keras_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    # Its own architecture; only the weights are not fetched.
    whole = keras.applications.VGG16
    monkeypatch.setattr(
        keras.applications, "VGG16", lambda include_top, weights: whole(include_top=include_top, weights=None)
    )
    layers = open_weights(Pretraining(weights="keras:imagenet"), Path(), "l").load()
    for kernel, bias in layers.values():
        assert kernel.dtype == bias.dtype == np.float32
        assert (kernel.astype(np.float16) != kernel).any()


def test_where_fetched_files_cannot_be_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        InputError, match=r"cannot be kept: .*; name a folder that can be written to in SWEEP_CACHE"
    ):
        opened("vggface:http://127.0.0.1:9/weights.h5", tmp_path)


@pytest.mark.parametrize(
    "address", ["https://me:geheim@host/w.h5", "https://host/w.h5?X-Amz-Signature=geheim"]
)
def test_an_address_with_a_password_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="holds a password, and the study file is stored") as refused:
        opened(f"vggface:{address}", tmp_path)
    assert "geheim" not in str(refused.value)
