"""The training script's network: folding its normalisations away changes nothing but the rounding."""

from pathlib import Path

import keras
import numpy as np

from tools import small_vgg


def test_folded_and_saved_network_computes_the_trained_one(tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    trained = small_vgg.build(batch_norm=True)
    for name, channels in small_vgg.layer_names():
        values = [rng.uniform(0.5, 1.5, channels), rng.normal(0, 0.3, channels)]
        values += [rng.normal(0, 0.3, channels), rng.uniform(0.5, 2, channels)]
        trained.get_layer(f"{name}_norm").set_weights(values)
    preprocessing = small_vgg.Preprocessing("BGR", (100.0, 120.0, 140.0), 1 / 64)
    path = tmp_path / "weights.npz"
    small_vgg.save(path, small_vgg.fold(trained), preprocessing)
    plain, declared = small_vgg.load(path)
    assert declared == preprocessing

    pixels = rng.integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    inputs = preprocessing.apply(pixels)
    np.testing.assert_allclose(inputs[0, 0, 0], (pixels[0, 0, 0, ::-1] - np.array(preprocessing.mean)) / 64)
    expected = np.asarray(trained(inputs, training=False))
    actual = np.asarray(plain(inputs))
    assert expected.shape == (4, 2, 2, 128)
    np.testing.assert_allclose(actual, expected, atol=0.01 * np.abs(expected).max())
