"""Curves: that what is drawn is what the data say."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sweep.report.curves import initialisation_curves, source_curves
from sweep.report.style import styles_of

LEVELS = (0.0, 1.0, 10.0, 100.0)
HEIGHTS = {
    ("a-identity", "same_init"): 0.9,
    ("a-identity", "same_task_same_pretraining"): 0.85,
    ("a-identity", "random"): 0.6,
    ("b-identity", "same_init"): 0.5,
    ("a-gender", "same_init"): 0.8,
}
LOOKS = styles_of(["same_init", "same_task_same_pretraining", "random"], ["b", "a"])


def tables(n: int = 3, sem: float | None = 0.05) -> tuple[pa.Table, pa.Table]:
    curves, bins = [], []
    for (condition, relation), height in HEIGHTS.items():
        pretraining, task = condition.split("-")
        place = {
            "condition": condition,
            "pretraining": pretraining,
            "task": task,
            "extra": "",
            "relation": relation,
        }
        curves += [
            {
                **place,
                "percent": percent,
                "accuracy": height - percent / 1000,
                "sem": sem,
                "n_destinations": n,
                "chance": 0.25,
            }
            for percent in LEVELS
        ]
        bins += [{**place, "auc_log": height + shift} for shift in (-0.02, 0.0, 0.02)[:n]]
    return pa.Table.from_pylist(curves), pa.Table.from_pylist(bins)


def lines_of(panel: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in panel.get_lines() if not line.get_label().startswith("_")}


def panels(figure: Figure) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def test_each_condition_has_a_panel_with_a_line_per_bin_at_the_accuracies() -> None:
    drawn = panels(source_curves(*tables(), LOOKS))
    assert set(drawn) == {"a-gender", "a-identity", "b-identity"}
    panel = drawn["a-identity"]
    assert set(lines_of(panel)) == {"the model itself", "random pixels"}
    line = lines_of(panel)["the model itself"]
    np.testing.assert_allclose(line.get_ydata(), [0.9, 0.899, 0.89, 0.8])
    np.testing.assert_allclose(line.get_xdata(), [1 / 10**0.5, 1, 10, 100])
    assert line.get_color() == LOOKS.relations["same_init"].colour
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0", "1", "10", "100"]


def test_initialisations_are_compared_per_task_in_the_colours_of_the_pretrainings() -> None:
    drawn = panels(initialisation_curves(*tables(), LOOKS))
    assert set(drawn) == {"identity", "gender"}
    lines = lines_of(drawn["identity"])
    assert set(lines) == {"a, the model itself", "a, another initialisation", "b, the model itself"}
    own, other = lines["a, the model itself"], lines["a, another initialisation"]
    assert own.get_color() == other.get_color() == LOOKS.pretrainings["a"].colour
    assert (own.get_linestyle(), other.get_linestyle()) == ("-", "--")
    assert lines["b, the model itself"].get_color() == LOOKS.pretrainings["b"].colour
    np.testing.assert_allclose(other.get_ydata()[0], 0.85)


def test_bands_are_the_confidence_of_the_mean_and_chance_is_marked() -> None:
    panel = panels(source_curves(*tables(), LOOKS))["b-identity"]
    (band,) = panel.collections
    half = 0.05 * scipy.stats.t.ppf(0.975, 2)
    vertices = band.get_paths()[0].vertices
    assert vertices[:, 1].max() == pytest.approx(0.5 + half)
    assert vertices[:, 1].min() == pytest.approx(0.4 - half)
    assert to_hex(band.get_facecolor()[0]) == LOOKS.relations["same_init"].colour.lower()
    assert any(np.allclose(line.get_ydata(), 0.25) for line in panel.get_lines())


def test_bars_are_mean_areas_with_their_confidence() -> None:
    panel = panels(source_curves(*tables(), LOOKS))["a-identity"]
    (inset,) = panel.child_axes
    own, random = inset.patches
    assert (own.get_height(), random.get_height()) == pytest.approx((0.9, 0.6))
    assert to_hex(own.get_facecolor()) == LOOKS.relations["same_init"].colour.lower()
    half = scipy.stats.sem([0.88, 0.9, 0.92]) * scipy.stats.t.ppf(0.975, 2)
    segment = inset.collections[0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 1], [0.9 - half, 0.9 + half])


def test_one_destination_has_a_line_and_a_bar_but_no_band() -> None:
    panel = panels(source_curves(*tables(n=1, sem=None), LOOKS))["b-identity"]
    assert np.ptp(panel.collections[0].get_paths()[0].vertices[:, 1]) == pytest.approx(0.1)
    (inset,) = panel.child_axes
    assert not inset.collections


def test_the_legend_names_every_line_once() -> None:
    (legend,) = source_curves(*tables(), LOOKS).legends
    assert [text.get_text() for text in legend.get_texts()] == ["the model itself", "random pixels"]
