"""Controls: whose map is taken, what a model looks at in any image, and blocks in random order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sweep.errors import InputError
from sweep.keys import generator
from sweep.numerics.controls import blocks, mask_ranks, mean_map, other_image
from sweep.numerics.masking import Ranking


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12).filter(lambda classes: len(set(classes)) > 1))
@settings(deadline=None)
def test_the_other_image_is_of_another_class_and_its_draw_follows_from_names(classes: list[int]) -> None:
    keys = [f"image {index * 7 % 13}" for index in range(len(classes))]
    drawn = other_image("first-identity-s1", keys, np.array(classes), 1)
    for image, other in enumerate(drawn.tolist()):
        candidates = sorted(key for key, own in zip(keys, classes, strict=True) if own != classes[image])
        draws = generator("other image", "first-identity-s1", keys[image], 1)
        assert keys[other] == candidates[draws.integers(len(candidates))]


def test_the_order_of_images_and_other_names_of_classes_make_no_difference_to_the_draw() -> None:
    keys, classes = [f"image {index}" for index in range(20)], np.arange(20) % 4
    drawn = other_image("s", keys, classes, 1)
    mixed = np.random.default_rng(0).permutation(20)
    again = other_image("s", [keys[index] for index in mixed], 9 - classes[mixed], 1)
    assert [keys[mixed[other]] for other in again] == [keys[other] for other in drawn[mixed]]


def test_draws_differ_by_model_and_number_and_reach_all_images_of_other_classes_alike() -> None:
    keys, classes = [f"image {index}" for index in range(20)], np.arange(20) % 2
    drawn = np.stack([other_image("s", keys, classes, draw) for draw in range(300)])
    assert not np.array_equal(drawn[1], other_image("t", keys, classes, 1))
    for image in (0, 7):
        times = np.bincount(drawn[:, image], minlength=20)
        assert (times[classes == classes[image]] == 0).all()
        assert times[classes != classes[image]].min() > 10


def test_images_of_one_class_have_no_other_image() -> None:
    with pytest.raises(InputError, match=r"other_image.*one class"):
        other_image("s", ["a", "b"], np.array([1, 1]), 1)


@given(hnp.arrays(np.float32, (4, 6), elements=st.floats(-1e3, 1e3, width=32)))
@settings(deadline=None)
def test_the_mean_map_is_that_of_all_other_images(maps: np.ndarray) -> None:
    result = mean_map(maps)
    assert result.dtype == np.float32
    for image in range(4):
        others = [np.abs(maps[other].astype(float)) for other in range(4) if other != image]
        np.testing.assert_allclose(result[image], sum(others) / 3, rtol=1e-6, atol=1e-9)


def test_one_image_has_no_mean_of_others() -> None:
    with pytest.raises(InputError, match=r"mean_map.*no other image"):
        mean_map(np.ones((1, 4), np.float32))


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)))
@settings(deadline=None)
def test_blocks_are_removed_one_after_the_other_in_a_drawn_order(shape: tuple[int, int]) -> None:
    height, width = shape
    for key, ranks in zip("ab", blocks("blocks-1", ("a", "b"), shape), strict=True):
        grid = [
            [
                y * width + x
                for y in range(top, min(top + 8, height))
                for x in range(left, min(left + 8, width))
            ]
            for top in range(0, height, 8)
            for left in range(0, width, 8)
        ]
        order = generator("random blocks", "blocks-1", key).permutation(len(grid))
        expected = [pixel for block in order for pixel in grid[block]]
        assert np.argsort(ranks).tolist() == expected


def test_blocks_differ_by_image_and_mask_but_not_by_call() -> None:
    first = blocks("blocks-1", ("a", "b"), (64, 48))
    assert first.dtype == np.int32
    np.testing.assert_array_equal(first[1:], blocks("blocks-1", ("b",), (64, 48)))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, blocks("blocks-2", ("a", "b"), (64, 48)))


@pytest.mark.parametrize("regions", [1, 2])
def test_reversed_removes_last_what_the_mask_removes_first(regions: int) -> None:
    maps = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    maps[1] = 0.5  # ranked at random
    mask, control = (
        mask_ranks(maps, Ranking("absolute", regions, reverse=reverse), "s", ["a", "b", "c"])
        for reverse in (False, True)
    )
    np.testing.assert_array_equal(np.argsort(control, axis=1), np.argsort(mask, axis=1)[:, ::-1])
