"""Styles: the same for the same condition, and told apart by colour-blind readers."""

from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from sweep.report.style import drawn, half_width, styles_of

BINS = ["same_init", "same_task_same_pretraining", "other_task", "other_pretraining", "other_both", "random"]

# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(colour: str, vision: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """CIE L*a*b* (D65) of a colour as somebody with `vision` sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(VISION[vision] @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = to_xyz @ seen / np.array([0.9505, 1, 1.089])
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("kind", ["relations", "pretrainings"])
def test_colours_are_told_apart_whatever_the_vision(kind: str, vision: str) -> None:
    styles = styles_of([*BINS, "other_a", "other_a_task"], ["p", "q", "r"], ["a"])
    colours = [style.colour for style in getattr(styles, kind).values()]
    for one, other in combinations(colours, 2):
        distance = float(np.linalg.norm(lab(one, vision) - lab(other, vision)))
        assert distance > 10, (one, other, distance)  # 2.3 is the least that can be seen


def test_no_two_looks_of_a_kind_are_the_same_even_with_many_bins() -> None:
    many = [*BINS, *(f"other_{i:02d}" for i in range(15))]
    styles = styles_of(many, [f"p{i}" for i in range(6)])
    for kind in (styles.relations, styles.pretrainings):
        assert len({(style.colour, style.marker, style.dashes) for style in kind.values()}) == len(kind)
    assert not {style.colour for style in styles.relations.values()} & {
        style.colour for style in styles.pretrainings.values()
    }


def test_a_bin_looks_the_same_in_every_study() -> None:
    small, large = styles_of(["same_init"], ["p"]), styles_of(["other_head", *BINS], ["q", "p"], ["head"])
    assert small.relations["same_init"] == large.relations["same_init"]
    assert list(large.relations)[-1] == "other_head"


def test_bins_of_further_factors_are_spoken() -> None:
    styles = styles_of(
        ["other_data_set_task", "other_data_set", "other_data_set_pretraining_task"], ["p"], ["data_set"]
    )
    assert {name: style.name for name, style in styles.relations.items()} == {
        "other_data_set": "other data_set",
        "other_data_set_task": "other data_set and task",
        "other_data_set_pretraining_task": "other data_set, pretraining and task",
    }


def test_the_same_figure_gives_the_same_bytes_as_png_and_svg() -> None:
    def files() -> tuple[bytes, bytes]:
        figure = Figure(layout="constrained")
        figure.subplots().plot([1, 2], [3, 4])
        return drawn(figure)

    png, svg = files()
    assert png.startswith(b"\x89PNG")
    assert b"<svg" in svg
    assert b"dc:date" not in svg
    assert files() == (png, svg)


def test_half_width_is_the_interval_of_scipy() -> None:
    values = [0.3, 0.5, 0.6, 0.9]
    sem = float(scipy.stats.sem(values))
    low, high = scipy.stats.t.interval(0.95, 3, loc=0.575, scale=sem)
    assert half_width(sem, 4) == pytest.approx((high - low) / 2)
    assert half_width(None, 1) == 0
