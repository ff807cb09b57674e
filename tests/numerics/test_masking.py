"""Masks: order of removal, counts, and what a masked input looks like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sweep.models.source import Preprocessing
from sweep.numerics.masking import (
    BLUR,
    Order,
    masked,
    random_ranks,
    region_ranks,
    removal_ranks,
    removed_count,
    replacements,
    source_ranks,
)

SLOW = {
    "absolute": lambda value: -abs(value),
    "positive": lambda value: -value,
    "negative": lambda value: value,
    "least": lambda value: abs(value),
}


@given(
    hnp.arrays(np.float32, (3, 12), elements=st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0])),
    st.sampled_from(["absolute", "positive", "negative", "least"]),
)
@settings(deadline=None)
def test_ranks_follow_relevance_then_position(maps: np.ndarray, order: Order) -> None:
    for own, ranks in zip(maps, removal_ranks(maps, order), strict=True):
        slow = sorted(range(len(own)), key=lambda pixel: (SLOW[order](float(own[pixel])), pixel))
        assert [slow.index(pixel) for pixel in range(len(own))] == ranks.tolist()


@st.composite
def maps_and_shape(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int]]:
    """Two maps of any small size, with ties."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    values = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0])
    return draw(hnp.arrays(np.float32, (2, shape[0] * shape[1]), elements=values)), shape


@given(maps_and_shape(), st.integers(1, 10))
@settings(deadline=None)
def test_regions_go_by_summed_relevance_then_position_and_whole(
    drawn: tuple[np.ndarray, tuple[int, int]], side: int
) -> None:
    maps, (height, width) = drawn
    all_ranks = region_ranks(maps, (height, width), side)
    assert all_ranks.dtype == np.int32
    for own, ranks in zip(maps, all_ranks, strict=True):
        regions: dict[tuple[int, int], list[int]] = {}
        for pixel in range(len(own)):
            regions.setdefault((pixel // width // side, pixel % width // side), []).append(pixel)
        sums = {place: sum(abs(float(own[pixel])) for pixel in pixels) for place, pixels in regions.items()}
        slow = [
            pixel for place in sorted(regions, key=lambda at: (-sums[at], at)) for pixel in regions[place]
        ]
        assert np.argsort(ranks).tolist() == slow


def test_regions_of_one_pixel_are_pixels_and_one_of_the_whole_image_goes_row_by_row() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 35)).astype(np.float32)
    np.testing.assert_array_equal(region_ranks(maps, (5, 7), 1), removal_ranks(maps))
    np.testing.assert_array_equal(region_ranks(maps, (5, 7), 7), np.tile(np.arange(35), (3, 1)))


@pytest.mark.parametrize("order", list(SLOW))
def test_a_map_without_differences_is_ranked_at_random_and_not_from_the_top(order: Order) -> None:
    maps = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    maps[1], maps[2] = 0, 0.5
    ranks = source_ranks(maps, order, "first-identity-s1", ("a", "b", "c", "d"))
    np.testing.assert_array_equal(ranks[[0, 3]], removal_ranks(maps, order)[[0, 3]])
    for index in (1, 2):
        assert sorted(ranks[index].tolist()) == list(range(64))
        assert abs(np.corrcoef(ranks[index], np.arange(64))[0, 1]) < 0.4
    assert not np.array_equal(ranks[1], ranks[2])
    np.testing.assert_array_equal(ranks[1:2], source_ranks(maps[1:2], order, "first-identity-s1", ("b",)))
    assert not np.array_equal(ranks[1:2], source_ranks(maps[1:2], order, "first-identity-s2", ("b",)))


def test_every_order_but_the_first_differs_from_the_papers() -> None:
    maps = np.array([[3.0, -5.0, 0.0, 1.0]], np.float32)
    firsts = {order: int(removal_ranks(maps, order).argmin()) for order in SLOW}  # type: ignore[arg-type]
    assert firsts == {"absolute": 1, "positive": 0, "negative": 1, "least": 2}


def test_removed_pixels_become_what_the_fill_says() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    preprocess = Preprocessing("BGR", (100.0, 110.0, 120.0), 0.5)
    keys = ("a", "b")
    assert (replacements("mean", pixels, keys, preprocess) == 0).all()
    black, grey = (replacements(fill, pixels, keys, preprocess)[0, 5, 7] for fill in ("zero", "grey"))
    np.testing.assert_allclose(black, [-50, -55, -60])
    np.testing.assert_allclose(grey, (127.5 - np.array([100, 110, 120])) / 2)
    noise = replacements("noise", pixels, keys, preprocess)
    assert noise.shape == pixels.shape
    np.testing.assert_array_equal(noise[1:], replacements("noise", pixels[1:], ("b",), preprocess))
    assert not np.array_equal(noise[0], noise[1])
    values = noise[..., 0] * 2 + 100
    assert values.min() >= 0
    assert values.max() <= 255
    assert 100 < values.mean() < 155


def test_a_blur_is_the_gaussian_average_of_each_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    blurred = replacements("blur", pixels, ("a",), Preprocessing("RGB", (0.0, 0.0, 0.0)))
    deviation = BLUR * 32
    away = np.arange(32) - 16
    weights = np.exp(-(away**2) / (2 * deviation**2)) * (np.abs(away) <= int(4 * deviation + 0.5))
    expected = np.einsum("yxc,y,x->c", pixels[0].astype(float), weights, weights) / weights.sum() ** 2
    np.testing.assert_allclose(blurred[0, 16, 16], expected, rtol=1e-5)


def test_counts_round_to_the_nearest_pixel() -> None:
    assert [removed_count(p, 4096) for p in (0, 0.1, 0.316, 1, 3.16, 10, 31.6, 100)] == [
        0,
        4,
        13,
        41,
        129,
        410,
        1294,
        4096,
    ]
    assert removed_count(0.5, 100) == 1


def test_exactly_the_first_pixels_become_the_mean_in_every_channel() -> None:
    draws = np.random.default_rng(0)
    inputs = draws.normal(size=(2, 4, 4, 3)).astype(np.float32) + 10
    maps = draws.normal(size=(2, 16)).astype(np.float32)
    result = masked(inputs, removal_ranks(maps), 5)
    for image in range(2):
        gone = set(np.argsort(-np.abs(maps[image]), kind="stable")[:5].tolist())
        for pixel in range(16):
            expected = np.zeros(3) if pixel in gone else inputs[image].reshape(16, 3)[pixel]
            np.testing.assert_array_equal(result[image].reshape(16, 3)[pixel], expected)
    other = masked(inputs, removal_ranks(maps), 5, inputs + 1)
    assert (other - inputs).sum() == 2 * 5 * 3


def test_random_masks_differ_by_image_and_mask_but_not_by_call() -> None:
    first = random_ranks("random-1", ("a", "b"), 64)
    np.testing.assert_array_equal(first[1:], random_ranks("random-1", ("b",), 64))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, random_ranks("random-2", ("a", "b"), 64))
    assert sorted(first[0].tolist()) == list(range(64))
