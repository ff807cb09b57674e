"""The backbone on a device against the obvious way: masks made in NumPy, one image at a time, one readout at a time."""

import numpy as np
import pytest

from sweep.lrp import Conv, Dense, Flatten, MaxPool, Network, ReLU, forward, winograd
from sweep.models.network import backbone_network, joined
from sweep.models.source import Preprocessing
from sweep.models.vgg import LAYERS
from sweep.numerics import evaluation
from sweep.numerics.evaluation import Evaluator, Readouts, SameForAllMasks
from sweep.numerics.masking import masked, random_ranks, replacements
from sweep.numerics.readout import Readout
from tests.studies import narrow_layers

NETWORK = backbone_network(narrow_layers("first"), 32)
DRAWS = np.random.default_rng(0)
PIXELS = DRAWS.integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
KEYS = tuple("abcde")


def close(a: object, b: object) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fill", ["mean", "noise", "blur"])
@pytest.mark.parametrize("per_pass", [1, 2, 100])
def test_every_level_equals_a_mask_made_by_hand(
    fill: str, per_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "BATCH_PIXELS", per_pass * 32 * 32)
    preprocess = Preprocessing()
    inputs = preprocess(PIXELS)
    instead = replacements(fill, PIXELS, KEYS, preprocess)  # type: ignore[arg-type]
    ranks = random_ranks("random-1", KEYS, 32 * 32)
    counts = [0, 3, 400, 1024]
    levels = Evaluator(NETWORK).masked_features(inputs, SameForAllMasks(instead), ranks, counts)
    for count, level in zip(counts, levels, strict=True):
        for image in range(5):
            own = instead[0 if len(instead) == 1 else image]
            by_hand = masked(inputs[image : image + 1], ranks[image : image + 1], count, own[None])
            close(level[image], forward(NETWORK, by_hand)[0])
    close(Evaluator(NETWORK).features(inputs), forward(NETWORK, inputs))


def test_a_backbone_that_ends_in_places_and_channels_has_features_in_the_order_of_a_readout() -> None:
    inputs, short = Preprocessing()(PIXELS), NETWORK.up_to(16)
    assert short.output_shape == (4, 4, 8)
    ranks = random_ranks("random-1", KEYS, 32 * 32)
    evaluator = Evaluator(short)
    nothing = SameForAllMasks(np.zeros((1, 1, 1, 3), np.float32))
    (unmasked,) = evaluator.masked_features(inputs, nothing, ranks, [0])
    # One readout for each feature, behind a flatten layer, as relevance has it.
    whole = joined(short, Dense(np.eye(4 * 4 * 8, dtype=np.float32), np.zeros(4 * 4 * 8, np.float32)))
    close(evaluator.features(inputs), forward(whole, inputs))
    close(unmasked, forward(whole, inputs))


@pytest.mark.parametrize(("per_pass", "images"), [(8, 5), (4, 5), (3, 5), (1, 2)])
def test_winograds_way_gives_the_same_features_in_passes_of_any_size(
    per_pass: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "BATCH_PIXELS", per_pass * 32 * 32)
    monkeypatch.setattr(winograd, "LEAST_CHANNEL_PAIRS", 0)
    monkeypatch.setattr(winograd, "LEAST_PRODUCTS_FORWARD", 0)
    inputs = Preprocessing()(PIXELS[:images])
    same = Network(NETWORK.layers, NETWORK.input_shape)
    fast, direct = Evaluator(same, "winograd"), Evaluator(same, "direct")
    features, plain = fast.features(inputs).numpy(), direct.features(inputs).numpy()
    assert features.shape == plain.shape
    assert not np.array_equal(features, plain)
    assert np.abs(features - plain).max() < 1e-5 * np.abs(plain).max()
    assert np.abs(features - forward(NETWORK, inputs)).max() < 1e-5 * np.abs(plain).max()


@pytest.mark.parametrize("layer", LAYERS)
def test_an_image_that_overflows_anywhere_inside_has_no_features_and_the_others_have_theirs(
    layer: str,
) -> None:
    layers = narrow_layers("first")
    kernel, bias = layers[layer]
    # One image has a pixel that no camera gives, so that the layer overflows for that image alone.
    inputs = Preprocessing()(PIXELS)
    inputs[2, 9, 9] = 1e20
    layers[layer] = (kernel * np.float32(1e20), bias)
    broken = backbone_network(layers, 32)
    with np.errstate(over="ignore", invalid="ignore"):
        sound = [0, 1, 3, 4]
        features = Evaluator(broken).features(inputs).numpy()
    assert np.isnan(features[2]).all()
    assert np.isfinite(features[sound]).all()
    # Some processors round the sums of a batch of another size otherwise.
    close(features[sound] / 1e20, Evaluator(broken).features(inputs[sound]).numpy() / 1e20)
    close(features[sound] / 1e20, forward(broken, inputs[sound]) / 1e20)


def test_an_overflow_in_front_of_a_bounded_relu_is_found() -> None:
    def conv(channels: int, width: int, scale: float) -> Conv:
        kernel = DRAWS.normal(size=(3, 3, channels, width)) * scale
        return Conv(kernel.astype(np.float32), np.zeros(width, np.float32))

    bounded = ReLU(max_value=6.0)
    network = Network(
        (conv(3, 8, 1e25), bounded, conv(8, 8, 1.0), bounded, MaxPool(), Flatten()), (16, 16, 3)
    )
    inputs = DRAWS.normal(size=(3, 16, 16, 3)).astype(np.float32)
    inputs[1] *= 1e20
    features = Evaluator(network).features(inputs).numpy()
    assert np.isnan(features).all(axis=1).tolist() == [False, True, False]


def readout(features: int, classes: int) -> Readout:
    kernel = DRAWS.normal(size=(features, classes)).astype(np.float32)
    return Readout(kernel, DRAWS.normal(size=classes).astype(np.float32))


def test_side_by_side_readouts_answer_as_each_alone() -> None:
    features = DRAWS.normal(size=(4, 16)).astype(np.float32)
    readouts = [readout(16, classes) for classes in (3, 1, 7)]
    together = Readouts(readouts).logits(features)
    assert [own.shape for own in together] == [(4, 3), (4, 1), (4, 7)]
    for own, alone in zip(together, readouts, strict=True):
        close(own, alone.logits(features))


def test_zeros_in_place_of_a_readout_leave_the_others_as_they_are_to_the_last_bit() -> None:
    features = DRAWS.normal(size=(12, 512)).astype(np.float32)
    readouts = [readout(512, classes) for classes in (101, 2, 33)]
    together = Readouts(readouts).logits(features)
    held = Readouts([readouts[0], Readout.zeros(512, 2), readouts[2]]).logits(features)
    assert not held[1].any()
    for index in (0, 2):
        np.testing.assert_array_equal(held[index], together[index])
