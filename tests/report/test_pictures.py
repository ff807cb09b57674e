"""Pictures: every pixel where the data put it."""

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sweep.arrays import Array
from sweep.report.pictures import (
    REMOVED,
    RankTwo,
    coloured,
    conv1_kernels,
    maps_across_models,
    masked_example,
    montage,
    overlaid,
    rank2_faces,
    saturation,
)
from sweep.report.style import styles_of

FACE = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3) // 4


def picture(figure: Figure) -> Array:
    (image,) = figure.axes[0].get_images()
    return np.asarray(image.get_array())


def tile(whole: Array, row: int, column: int, side: int = 16, gap: int = 1) -> Array:
    y, x = row * (side + gap), column * (side + gap)
    return whole[y : y + side, x : x + side]


def test_a_montage_puts_each_tile_in_its_row_and_column() -> None:
    tiles = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3, 1, 1, 1).repeat(2, 2).repeat(2, 3)
    whole = montage(tiles, gap=1)[..., 0]
    assert whole.shape == (5, 8)
    for row in range(2):
        for column in range(3):
            assert (tile(whole, row, column, side=2) == 3 * row + column).all()
    assert (whole[2] == 255).all()


def test_masked_faces_lose_exactly_the_first_pixels_of_each_order() -> None:
    forwards = np.arange(256)
    whole = picture(masked_example(FACE, {"forwards": forwards, "backwards": forwards[::-1]}, [0, 12.5, 100]))
    assert (tile(whole, 0, 0) == FACE).all()
    first = tile(whole, 0, 1).reshape(256, 3)
    assert (first[:32] == REMOVED).all()
    assert (first[32:] == FACE.reshape(256, 3)[32:]).all()
    second = tile(whole, 1, 1).reshape(256, 3)
    assert (second[-32:] == REMOVED).all()
    assert (second[:-32] == FACE.reshape(256, 3)[:-32]).all()
    assert (tile(whole, 0, 2) == REMOVED).all()


def test_rows_and_columns_of_masked_faces_are_named() -> None:
    panel = masked_example(FACE, {"a": np.arange(256), "random": np.arange(256)}, [0, 31.6]).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a", "random"]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0 %", "31.6 %"]
    np.testing.assert_allclose(panel.get_xticks(), [7.5, 24.5])


def test_signed_colours_are_red_for_blue_against_and_white_for_nothing() -> None:
    positive, negative, nothing = coloured(np.array([[2.0, -2.0, 0.0]]), 1.0)[0].astype(int)
    assert positive[0] > positive[2] + 50
    assert negative[2] > negative[0] + 50
    assert nothing.min() > 240
    half, full = coloured(np.array([[0.5, 1.0]]), 1.0)[0].astype(int)
    assert half[1] > full[1]


def test_an_overlay_is_the_grey_face_where_nothing_is_relevant_and_the_map_where_much_is() -> None:
    relevance = np.zeros((16, 16))
    relevance[3, 4] = -5
    mixed = overlaid(FACE, relevance, 1.0)
    grey = np.round(FACE @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    assert (mixed[0, 0] == grey[0, 0]).all()
    assert (mixed[3, 4] == coloured(relevance, 1.0)[3, 4]).all()


def test_each_model_has_its_map_and_overlay_below_its_name() -> None:
    faces = np.stack([FACE, FACE[::-1]])
    maps = np.random.default_rng(0).normal(size=(3, 2, 16, 16))
    figure = maps_across_models(faces, maps, ["m1", "m2", "a-very-long-name-s1"])
    whole, limit = picture(figure), saturation(maps)
    for f in range(2):
        assert (tile(whole, 2 * f, 0) == faces[f]).all()
        for m in range(3):
            assert (tile(whole, 2 * f, m + 1) == coloured(maps[m, f], limit)).all()
            assert (tile(whole, 2 * f + 1, m + 1) == overlaid(faces[f], maps[m, f], limit)).all()
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == ["image", "m1", "m2", "a-very-long-\nname-s1"]


def test_the_scale_saturates_at_the_99th_percentile() -> None:
    assert saturation(np.linspace(-1, 0, 101)) == np.percentile(np.linspace(0, 1, 101), 99)
    assert saturation(np.zeros(4)) > 0


def test_kernels_are_scaled_by_their_own_largest_weight_around_grey() -> None:
    kernels = np.zeros((3, 3, 3, 10), np.float32)
    kernels[0, 0, 0, 0], kernels[1, 1, 2, 9] = 0.5, -4
    panel = conv1_kernels({"a": kernels, "b": kernels}).axes[0]
    whole = np.asarray(panel.get_images()[0].get_array())
    assert whole.shape == (7, 31, 3)
    np.testing.assert_allclose(whole[0, 0], [1, 0.5, 0.5])
    np.testing.assert_allclose(tile(whole, 1, 1, side=3)[1, 1], [0.5, 0.5, 0])
    np.testing.assert_allclose(tile(whole, 1, 2, side=3), 1)  # an empty place is white
    assert panel.get_title() == "a"


def test_rank2_faces_stand_below_their_target_with_the_votes() -> None:
    other = 255 - FACE
    targets = [
        RankTwo("ann", FACE, {"x": ("bea", other, "(4 of 5)"), "y": ("cat", FACE, "(2 of 5, tied)")}),
        RankTwo("dot", other, {"x": ("eve", FACE, "(5 of 5)"), "y": ("none", None, "")}),
    ]
    styles = styles_of([], ["x", "y"])
    figure = rank2_faces(targets, styles)
    whole, panel = picture(figure), figure.axes[0]
    assert (tile(whole, 0, 0) == FACE).all()
    assert (tile(whole, 1, 0) == other).all()
    assert (tile(whole, 2, 0) == FACE).all()
    assert (tile(whole, 2, 1) == 255).all()
    assert [text.get_text() for text in panel.texts] == [
        "bea  (4 of 5)",
        "cat  (2 of 5, tied)",
        "eve  (5 of 5)",
        "none  ",
    ]
    labels = panel.get_yticklabels()
    assert [label.get_text() for label in labels] == ["shown", "x", "y"]
    assert to_hex(labels[1].get_color()) == styles.pretrainings["x"].colour.lower()
