"""Masks: order of removal, counts, and what a masked input looks like."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sweep.masking import masked, random_ranks, removal_ranks, removed_count


@given(hnp.arrays(np.float32, (3, 12), elements=st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0])))
def test_ranks_follow_absolute_relevance_then_position(maps: np.ndarray) -> None:
    for own, ranks in zip(maps, removal_ranks(maps), strict=True):
        slow = sorted(range(len(own)), key=lambda pixel: (-abs(float(own[pixel])), pixel))
        assert [slow.index(pixel) for pixel in range(len(own))] == ranks.tolist()


def test_counts_round_to_the_nearest_pixel() -> None:
    assert [removed_count(p, 4096) for p in (0, 0.1, 0.316, 1, 3.16, 10, 31.6, 100)] == [
        0, 4, 13, 41, 129, 410, 1294, 4096,
    ]  # fmt: skip
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


def test_random_masks_differ_by_image_and_mask_but_not_by_call() -> None:
    first = random_ranks("random-1", ("a", "b"), 64)
    np.testing.assert_array_equal(first[1:], random_ranks("random-1", ("b",), 64))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, random_ranks("random-2", ("a", "b"), 64))
    assert sorted(first[0].tolist()) == list(range(64))
