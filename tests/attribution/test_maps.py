"""Each attribution against its slow twin, against iNNvestigate, and against what its paper promises of it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sweep.attribution import maps as attributions
from sweep.attribution.subject import Subject
from sweep.errors import InputError
from sweep.keys import generator
from sweep.lrp import Dense, Flatten, Network, ReLU
from sweep.lrp.reference import GRADIENTS, Innvestigate
from sweep.study.attribution import (
    GradientAttribution,
    NoiseAttribution,
    PatchAttribution,
    PathAttribution,
)
from tests.attribution import twin
from tests.lrp import nets
from tests.lrp.test_reference import inverted, residual, rich

N_IMAGES, N_READOUTS = 3, 2


def parts(network: Network) -> tuple[Network, Dense]:
    """A network's backbone and its last dense layer."""
    last = network.layers[-1]
    assert isinstance(last, Dense)
    return network.up_to(len(network.layers) - 2), last


def subject_of(network: Network, seed: int = 0) -> Subject:
    """Two readouts, of which the second has other weights and one class more, on three images."""
    rng = np.random.default_rng(seed)
    backbone, readout = parts(network)
    size, classes = readout.kernel.shape
    readouts = [readout, nets.dense(rng, size, classes + 1)]
    images = rng.standard_normal((N_IMAGES, *network.input_shape)).astype(np.float32)
    targets = rng.integers(0, classes, (N_READOUTS, N_IMAGES))
    return Subject(backbone, readouts, images, targets, ["i0", "i1", "i2"], ["m0", "m1"])


def models(subject: Subject, *, guided: bool = False) -> list[Any]:
    """A Keras model of each readout."""
    flat = () if len(subject.network.output_shape) == 1 else (Flatten(),)
    return [
        twin.keras_model(subject.network.then(*flat, readout), guided=guided) for readout in subject.readouts
    ]


def each(subject: Subject, found: Any) -> Any:
    """What `found` gives for the model, the image and the target of every map, as maps."""
    return np.stack(
        [
            [found(model, image, int(target)) for image, target in zip(subject.images, own, strict=True)]
            for model, own in zip(models(subject), subject.targets, strict=True)
        ]
    )


def assert_alike(maps: Any, expected: Any, tolerance: float = 1e-4) -> None:
    assert maps.shape == expected.shape
    scale = np.abs(expected).max(axis=(2, 3), keepdims=True)
    assert (np.abs(maps - expected) <= tolerance * scale + 1e-6).all()


def made(method: Any, subject: Subject, filled: Any = None) -> Any:
    maps = attributions.attribution_maps(method, subject, lambda baseline: filled)
    assert maps.dtype == np.float32
    return maps


GRADIENT = GradientAttribution(method="gradient")
GUIDED = GradientAttribution(method="guided_backprop")
FIXED = {"small": nets.small, "rich": rich, "residual": residual, "inverted": inverted}


@given(network=st.one_of(nets.networks(), nets.graphs()), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_gradients_equal_a_tape_on_the_keras_model(network: Network, seed: int) -> None:
    assume(all(twin.can_be_keras(layer) for layer in network.layers))
    subject = subject_of(network, seed)
    assert_alike(
        made(GRADIENT, subject), each(subject, lambda *of: twin.gradient(*of).sum(axis=-1)), tolerance=1e-3
    )


@pytest.mark.parametrize("name", FIXED)
def test_gradient_and_input_times_gradient_equal_a_tape(name: str) -> None:
    subject = subject_of(FIXED[name](3))
    assert_alike(made(GRADIENT, subject), each(subject, lambda *of: twin.gradient(*of).sum(axis=-1)))
    times = GradientAttribution(method="input_times_gradient")
    expected = each(subject, lambda m, x, t: (x * twin.gradient(m, x, t)).sum(axis=-1))
    assert_alike(made(times, subject), expected)


def test_gradients_equal_finite_differences() -> None:
    subject = subject_of(nets.small(1))
    step, maps = 1e-2, made(GRADIENT, subject)
    model = models(subject)[1]
    for row, column in ((0, 0), (4, 7), (11, 5)):
        moved = subject.images[2].copy(), subject.images[2].copy()
        moved[0][row, column] += step
        moved[1][row, column] -= step
        up, down = (twin.logit(model, one, int(subject.targets[1, 2])) for one in moved)
        assert maps[1, 2, row, column] == pytest.approx((up - down) / (2 * step), rel=0.02, abs=2e-3)


@pytest.mark.parametrize("name", ["small", "rich", "residual"])
def test_guided_backprop_equals_a_tape_through_guided_relus(name: str) -> None:
    subject = subject_of(FIXED[name](5))
    guided = models(subject, guided=True)
    expected = np.stack(
        [
            [
                twin.gradient(model, image, int(target)).sum(axis=-1)
                for image, target in zip(subject.images, own, strict=True)
            ]
            for model, own in zip(guided, subject.targets, strict=True)
        ]
    )
    maps = made(GUIDED, subject)
    assert_alike(maps, expected)
    assert np.abs(maps - made(GRADIENT, subject)).max() > 0.01 * np.abs(maps).max()


def test_integrated_gradients_equal_a_loop_over_the_way() -> None:
    subject = subject_of(nets.small(2))
    baseline = np.random.default_rng(9).standard_normal((1, 12, 12, 3)).astype(np.float32)
    path = PathAttribution(method="integrated_gradients", steps=5)

    def expected(model: Any, image: Any, target: int) -> Any:
        points = [baseline[0] + (k + 0.5) / 5 * (image - baseline[0]) for k in range(5)]
        mean = np.mean([twin.gradient(model, point.astype(np.float32), target) for point in points], axis=0)
        return ((image - baseline[0]) * mean).sum(axis=-1)

    assert_alike(made(path, subject, baseline), each(subject, expected))


@pytest.mark.parametrize("name", FIXED)
def test_integrated_gradients_are_complete(name: str) -> None:
    subject = subject_of(FIXED[name](7))
    baseline = np.zeros((1, *subject.images.shape[1:]), np.float32)
    maps = made(PathAttribution(method="integrated_gradients", steps=1000), subject, baseline)
    lost = subject.target_logits(subject.images) - subject.target_logits(np.zeros_like(subject.images))
    assert maps.sum(axis=(2, 3)) == pytest.approx(lost, rel=0.01, abs=0.01 * float(np.abs(lost).max()))


def test_smoothgrad_equals_a_loop_over_noisy_copies() -> None:
    subject = subject_of(nets.small(4))
    maps = made(NoiseAttribution(method="smoothgrad", samples=3, noise=0.2), subject)
    places = {image.tobytes(): place for place, image in enumerate(subject.images)}

    def expected(model: Any, image: Any, target: int) -> Any:
        key = subject.image_keys[places[image.tobytes()]]
        noise = [
            generator("smoothgrad", key, sample).standard_normal(image.shape, np.float32)
            for sample in range(3)
        ]
        copies = [image + np.float32(0.2 * np.ptp(image)) * one for one in noise]
        return np.mean([twin.gradient(model, copy, target).sum(axis=-1) for copy in copies], axis=0)

    assert_alike(maps, each(subject, expected))


@pytest.mark.parametrize(("name", "layer"), [("small", 6), ("rich", 10), ("residual", 16), ("inverted", 10)])
def test_grad_cam_equals_a_tape_at_the_last_convolution(name: str, layer: int) -> None:
    subject = subject_of(FIXED[name](6))
    maps = made(GradientAttribution(method="grad_cam"), subject)
    assert_alike(maps, each(subject, lambda m, x, t: twin.grad_cam(m, f"layer_{layer}", x, t)))
    assert maps.max() > 0
    assert maps.min() >= 0


def test_grad_cam_refuses_a_network_without_convolutions() -> None:
    rng = np.random.default_rng(0)
    network = Network((Flatten(), nets.dense(rng, 48, 5), ReLU(), nets.dense(rng, 5, 2)), (4, 4, 3))
    with pytest.raises(InputError, match="grad_cam: the network has no convolution"):
        made(GradientAttribution(method="grad_cam"), subject_of(network))


@pytest.mark.parametrize(("patch", "stride"), [(4, 4), (5, 3), (5, 1), (12, 7), (40, 1)])
def test_occlusion_equals_a_loop_over_squares(patch: int, stride: int) -> None:
    subject = subject_of(nets.small(8))
    filled = np.random.default_rng(1).standard_normal((1, 12, 12, 3)).astype(np.float32)
    maps = made(PatchAttribution(method="occlusion", patch=patch, stride=stride), subject, filled)
    expected = each(subject, lambda m, x, t: twin.occlusion(m, x, filled[0], t, patch, stride))
    assert np.abs(maps - expected).max() <= 1e-4 * np.abs(expected).max() + 1e-5


def test_occlusion_fills_each_image_with_its_own() -> None:
    subject = subject_of(nets.small(8))
    method = PatchAttribution(method="occlusion", patch=6, stride=6)
    filled = np.random.default_rng(1).standard_normal(subject.images.shape).astype(np.float32)
    alone = [made(method, subject, filled[place : place + 1])[:, place] for place in range(N_IMAGES)]
    assert (made(method, subject, filled) == np.stack(alone, axis=1)).all()


def test_random_maps_follow_from_model_and_image_alone() -> None:
    one, other = subject_of(nets.small(1)), subject_of(nets.small(2))
    other.image_keys, other.model_keys = ["i2", "i1"], ["m1", "m0"]
    other.images = other.images[:2]
    method = GradientAttribution(method="random")
    first, second = made(method, one), made(method, other)
    assert (first[1, 2] == second[0, 0]).all()
    assert (first[0, 1] == second[1, 1]).all()
    assert len({own.tobytes() for of_model in first for own in of_model}) == N_READOUTS * N_IMAGES


def test_maps_are_the_same_however_many_fit_into_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(nets.small(3))
    cam = GradientAttribution(method="grad_cam")
    together = made(GRADIENT, subject), made(cam, subject)
    monkeypatch.setattr("sweep.attribution.subject.pass_size", lambda network, count: (2, 1))
    apart = made(GRADIENT, subject), made(cam, subject)
    for whole, parts_of in zip(together, apart, strict=True):
        assert_alike(parts_of, whole, 1e-5)


def test_readouts_that_do_not_fit_are_refused() -> None:
    backbone, _ = parts(nets.small(0))
    readout = nets.dense(np.random.default_rng(0), 11, 2, name="wide")
    images = np.zeros((1, 12, 12, 3), np.float32)
    with pytest.raises(InputError, match="readout 'wide': takes 11 inputs, but the backbone has 10 outputs"):
        Subject(backbone, [readout], images, np.zeros((1, 1), int), ["i"], ["m"])


@pytest.fixture(scope="module")
def process() -> Iterator[Innvestigate]:
    """One process, which turns to the network of each test."""
    with Innvestigate(nets.small(0)) as made_once:
        yield made_once


@pytest.mark.reference
@pytest.mark.parametrize("name", ["small", "rich", "residual"])
@pytest.mark.parametrize("method", GRADIENTS)
def test_gradients_agree_with_innvestigate(process: Innvestigate, method: Any, name: str) -> None:
    subject = subject_of(FIXED[name](11))
    subject.targets = np.stack([logits.argmax(axis=1) for logits in subject.logits])
    maps = made(GradientAttribution(method=method), subject)
    for index, readout in enumerate(subject.readouts):
        flat = () if len(subject.network.output_shape) == 1 else (Flatten(),)
        process.turn_to(subject.network.then(*flat, readout), method)
        theirs = process.relevance(subject.images, subject.targets[index])
        own = maps[index]
        if method == "guided_backprop":  # theirs starts from the logit, ours from 1
            logits = subject.logits[index].max(axis=1)
            assert (logits > 0).any()
            own, theirs = (logits[:, None, None] * own)[logits > 0], theirs[logits > 0]
        assert_alike(own[None], theirs[None])
