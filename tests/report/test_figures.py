"""Figures: that what is drawn is what the data say."""

from typing import Any

import numpy as np
import pyarrow as pa

from sweep.report.figures import RELATION_COLOURS, accuracy_curves, colour_of


def curves() -> pa.Table:
    rows = []
    for condition, relation, level in (
        ("a-identity", "same_init", 0.9), ("a-identity", "random", 0.6), ("b-identity", "same_init", 0.5),
    ):  # fmt: skip
        for percent in (0.0, 1.0, 10.0, 100.0):
            accuracy = level - percent / 1000
            rows.append(
                {"condition": condition, "relation": relation, "percent": percent, "accuracy": accuracy,
                 "sem": 0.05, "chance": 0.25}
            )  # fmt: skip
    return pa.Table.from_pylist(rows)


def lines_of(panel: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in panel.get_lines() if not line.get_label().startswith("_")}


def test_each_condition_has_a_panel_with_a_line_per_bin_at_the_accuracies() -> None:
    figure = accuracy_curves(curves())
    first, second = figure.axes
    assert first.get_title() == "a-identity"
    assert set(lines_of(first)) == {"same_init", "random"}
    assert set(lines_of(second)) == {"same_init"}
    line = lines_of(first)["same_init"]
    np.testing.assert_allclose(line.get_ydata(), [0.9, 0.899, 0.89, 0.8])
    np.testing.assert_allclose(line.get_xdata(), [1 / 10**0.5, 1, 10, 100])
    assert line.get_color() == RELATION_COLOURS["same_init"]
    assert [label.get_text() for label in first.get_xticklabels()] == ["0", "1", "10", "100"]


def test_bands_are_one_standard_error_and_chance_is_marked() -> None:
    panel = accuracy_curves(curves()).axes[0]
    heights = [collection.get_paths()[0].get_extents().height for collection in panel.collections]
    np.testing.assert_allclose(heights, [0.1 + 0.1, 0.1 + 0.1], atol=1e-9)
    assert any(np.allclose(line.get_ydata(), 0.25) for line in panel.get_lines())


def test_a_bin_has_one_colour_everywhere_and_further_bins_get_their_own() -> None:
    relations = ["same_init", "other_schedule", "other_schedule_task"]
    colours = [colour_of(name, relations) for name in relations]
    assert len(set(colours)) == 3
    assert colours[0] == RELATION_COLOURS["same_init"]
