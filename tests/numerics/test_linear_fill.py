"""The fill 'linear' against the sparse system solved directly, one image, mask and channel at a time."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.arrays import Array
from sweep.keys import generator, key_of
from sweep.numerics.linear_fill import LinearFill, noise_start

TOLERANCE = 0.5
"""Grey levels."""
STEPS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def solved(image: Array, removed: Array) -> Array:
    """`image` (height, width, channel) with the pixels imputed where `removed`: the system of ROAD, as it is written."""
    number = np.full(
        (removed.shape[0] + 2, removed.shape[1] + 2), -2
    )  # -2 is outside the image, -1 a known pixel
    number[1:-1, 1:-1] = -1
    number[1:-1, 1:-1][removed] = unknown = np.arange(removed.sum())
    known = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    ys, xs = (place + 1 for place in np.nonzero(removed))
    diagonal, right = np.zeros(len(unknown)), np.zeros((len(unknown), image.shape[2]))
    values, places = [], []
    for y, x in STEPS:
        weight = 1 / 6 if 0 in (y, x) else 1 / 12
        there = number[ys + y, xs + x]
        diagonal += weight * (there != -2)
        right += weight * known[ys + y, xs + x] * (there == -1)[:, None]
        own = np.flatnonzero(there >= 0)
        values.append(np.full(len(own), -weight))
        places.append((own, there[own]))
    values.append(diagonal)
    places.append((unknown, unknown))
    matrix = scipy.sparse.csc_matrix((np.concatenate(values), np.concatenate(places, axis=1)))
    result = image.astype(np.float64)
    result[removed] = scipy.sparse.linalg.spsolve(matrix, right).reshape(right.shape)
    return result


@functools.cache
def table() -> Array:
    return generator("linear fill").standard_normal((32768, 64), np.float32).ravel()


def noise(image_key: str, mask: str, count: int, shape: tuple[int, ...]) -> Array:
    """The noise of one masked image, (height, width, 3), from nothing but names."""
    start = int(key_of("linear fill", image_key, mask, count), 16) % 32768 * 64
    places = np.arange(start, start + np.prod(shape)) % (32768 * 64)
    return 2.55 * table()[places].reshape(shape)


def slow(image: Array, key: str, mask: str, removed: Array) -> Array:
    noisy = solved(image, removed) + noise(key, mask, int(removed.sum()), image.shape)
    return np.where(removed[..., None], np.clip(noisy, 0, 255), image)


def fast(images: Array, rows: list[int], removed: Array, mask: str = "m") -> Array:
    """`removed` is bool (row, height, width); the key of each image is its number."""
    fill = LinearFill(images, [str(index) for index in range(len(images))], mask)
    filled: Array = fill.fill(np.array(rows), removed.sum(axis=(1, 2)), removed[..., None]).numpy()
    return filled


def photo(height: int, width: int, seed: int) -> Array:
    """Smooth colours, an edge and some grain, as in a photograph."""
    draws = np.random.default_rng(seed)
    smooth = scipy.ndimage.gaussian_filter(
        draws.normal(size=(height, width, 3)), (height / 12, width / 12, 0)
    )
    scaled = 128 + 60 * smooth / smooth.std()
    scaled[:, width // 3 :] -= 70
    grainy: Array = np.clip(scaled + draws.normal(0, 8, scaled.shape), 0, 255).astype(np.uint8)
    return grainy


def black_and_white(height: int, width: int, seed: int) -> Array:
    chosen = np.random.default_rng(seed).integers(0, 2, (height, width, 3)) * 255
    return chosen.astype(np.uint8)


def first(order: Array, percent: float) -> Array:
    """The given percent of pixels with the highest `order`: at least one, and not all."""
    count = min(max(round(order.size * percent / 100), 1), order.size - 1)
    removed = np.zeros(order.size, bool)
    removed[np.argsort(-order, axis=None, kind="stable")[:count]] = True
    return removed.reshape(order.shape)


def away(height: int, width: int) -> Array:
    """Distance of each pixel from a point left of the middle."""
    y, x = np.mgrid[:height, :width]
    distance: Array = np.hypot(y - 0.5 * height, x - 0.4 * width)
    return distance


def relevance(height: int, width: int) -> Array:
    """Spots of several sizes on the middle of the image, as in a map of a face."""
    draws = np.random.default_rng(5)
    fine, coarse = (
        np.abs(scipy.ndimage.gaussian_filter(draws.normal(size=(height, width)), sigma)) * sigma
        for sigma in (1, 4)
    )
    spots: Array = (fine + 2 * coarse) * np.exp(-((away(height, width) / (0.3 * height)) ** 2))
    return spots


MASKS: dict[str, Callable[[int, int], Array]] = {
    "relevance": relevance,
    "scattered": lambda height, width: np.random.default_rng(3).random((height, width)),
    "disc": lambda height, width: -away(height, width),
    "ring": lambda height, width: -np.abs(away(height, width) - height / 3),
    "around": away,
    "half plane": lambda height, width: -np.mgrid[:height, :width][1].astype(float),
    "slanted": lambda height, width: np.mgrid[:height, :width].sum(axis=0) + 0.0,
    "stripes": lambda height, width: np.mgrid[:height, :width][0] % 8 + 0.0,
    "columns of one": lambda height, width: np.mgrid[:height, :width][1] % 2 + 0.0,
}
PERCENTS = (0.1, 10, 31.6, 50, 90, 99, 99.9)


def check(images: Array, removed: Array) -> None:
    """All masks on the first image."""
    filled = fast(images, [0] * len(removed), removed)
    for row, own in zip(filled, removed, strict=True):
        error = np.abs(row - slow(images[0], "0", "m", own)).max()
        assert error < TOLERANCE, f"{own.sum()} of {own.size} removed: {error}"
        np.testing.assert_array_equal(row[~own], images[0][~own])


@pytest.mark.parametrize("order", list(MASKS))
@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (17, 96)])
def test_every_pixel_is_within_half_a_grey_level_of_the_direct_solution(
    shape: tuple[int, int], order: str
) -> None:
    removed = np.stack([first(MASKS[order](*shape), percent) for percent in PERCENTS])
    check(photo(*shape, 1)[None], removed)
    check(black_and_white(*shape, 1)[None], removed)


@pytest.mark.parametrize(
    ("shape", "percents"),
    [((96, 96), (10, 31.6, 90)), ((127, 65), (31.6, 50)), ((224, 224), (10,))],
)
def test_so_it_is_on_larger_images(shape: tuple[int, int], percents: tuple[float, ...]) -> None:
    orders = ("relevance", "scattered", "disc", "half plane")
    removed = np.stack([first(MASKS[order](*shape), percent) for order in orders for percent in percents])
    check(photo(*shape, 2)[None], removed)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (32, 32)])
def test_one_known_pixel_gives_all_others_its_colour(shape: tuple[int, int]) -> None:
    for place in {(0, 0), (shape[0] - 1, shape[1] // 2), (shape[0] // 2, shape[1] // 3)}:
        removed = np.ones((1, *shape), bool)
        removed[0][place] = False
        image = photo(*shape, 3)
        expected = np.clip(image[place] + noise("0", "m", int(removed.sum()), image.shape), 0, 255)
        filled = fast(image[None], [0], removed)[0]
        np.testing.assert_array_equal(filled[place], image[place])
        assert np.abs(filled - expected)[removed[0]].max(initial=0) < TOLERANCE


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.99), st.floats(0.1, 4))
@settings(deadline=None, max_examples=25)
def test_so_it_is_under_any_mask_of_spots(seed: int, share: float, size: float) -> None:
    draws = np.random.default_rng(seed)
    images = draws.integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    spots = scipy.ndimage.gaussian_filter(draws.normal(size=(32, 32)), size)
    check(images, first(spots, 100 * share)[None])


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.99))
@settings(deadline=None, max_examples=15)
def test_a_ramp_is_restored_inside_and_no_value_leaves_the_range_of_what_is_known(
    seed: int, share: float
) -> None:
    """The weights are symmetric, so linear ramps solve the system away from the edges; solutions have no extremes."""
    draws = np.random.default_rng(seed)
    gone = draws.random((32, 32)) < share
    y, x = np.mgrid[:32, :32]
    for ramp, removed in (
        (np.broadcast_to(40 + 3 * y + 2 * x, (32, 32)), gone & (y % 31 > 0) & (x % 31 > 0)),
        (draws.integers(80, 120, (32, 32)), gone),
    ):
        image = np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)
        drawn = noise("0", "m", int(removed.sum()), image.shape)
        plain = (fast(image[None], [0], removed[None])[0] - drawn)[removed]
        if removed is not gone:
            np.testing.assert_allclose(plain, image[removed], atol=TOLERANCE)
        elif not gone.all():
            known = image[~removed]
            assert plain.min(initial=255) > known.min() - TOLERANCE
            assert plain.max(initial=0) < known.max() + TOLERANCE


def many(grey: bool = False) -> tuple[Array, list[int], Array]:
    """Images, rows and masks: five images under two masks each."""
    images = np.stack([photo(32, 32, seed) for seed in range(5)])
    if grey:
        images = np.repeat(images[..., :1], 3, axis=3)
    orders = [MASKS[name](32, 32) for name in ("relevance", "scattered")]
    rows = [image for _ in orders for image in range(5)]
    removed = np.stack([first(order, 10 + 15 * image) for order in orders for image in range(5)])
    return images, rows, removed


@pytest.mark.parametrize("grey", [False, True])
def test_a_row_is_the_same_in_any_batch(grey: bool) -> None:
    images, rows, removed = many(grey)
    together = fast(images, rows, removed)
    mixed = np.random.default_rng(0).permutation(10)
    np.testing.assert_allclose(
        fast(images, [rows[i] for i in mixed], removed[mixed]), together[mixed], atol=1e-3
    )
    for row, image in enumerate(rows):
        alone = fast(images, [image], removed[row : row + 1])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-3)


def test_grey_images_are_filled_as_colour_images_are() -> None:
    images, rows, removed = many(grey=True)
    colourful = np.concatenate([images, photo(32, 32, 9)[None]])
    np.testing.assert_allclose(fast(images, rows, removed), fast(colourful, rows, removed), atol=1e-3)


def test_the_noise_differs_by_image_mask_count_and_channel() -> None:
    image = np.full((32, 32, 3), 128, np.uint8)
    removed = first(MASKS["scattered"](32, 32), 50)
    fewer = removed & (np.cumsum(removed).reshape(removed.shape) < removed.sum())
    same = fast(np.stack([image, image]), [0, 1, 0], np.stack([removed, removed, fewer]))
    other = fast(image[None], [0], removed[None], mask="another")
    drawn = [row[fewer] - 128 for row in (*same, other[0])]
    drawn = [values[:, channel] for values in drawn for channel in range(3)]
    for values in drawn:
        assert abs(values.std() - 2.55) < 0.3
        assert abs(values.mean()) < 0.5
    assert np.abs(np.corrcoef(drawn) - np.eye(12)).max() < 0.2


def test_the_table_is_read_past_its_end_from_the_start() -> None:
    image, removed = np.full((32, 32, 3), 128, np.uint8), np.ones((32, 32), bool)
    removed[0, 0] = False
    # The row takes 48 blocks of 64 numbers.
    late = next(str(k) for k in range(10**5) if noise_start(str(k), "m", 1023) > 32768 - 40)
    fill = LinearFill(image[None], [late], "m")
    filled = fill.fill(np.array([0]), np.array([1023]), removed[None, ..., None]).numpy()[0]
    expected = 128 + noise(late, "m", 1023, image.shape)
    np.testing.assert_allclose(filled[removed], expected[removed], atol=1e-3)


def test_nothing_removed_is_the_image_and_nothing_known_is_noise_about_the_middle() -> None:
    image = photo(32, 32, 0)
    removed = np.stack([np.zeros((32, 32), bool), np.ones((32, 32), bool)])
    nothing, everything = fast(image[None], [0, 0], removed)
    np.testing.assert_array_equal(nothing, image)
    np.testing.assert_allclose(everything, 128 + noise("0", "m", 1024, image.shape), atol=1e-3)
