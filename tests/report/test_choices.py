"""Counts of agreeing and disagreeing rank-2 choices."""

from typing import Any

import pyarrow as pa
from matplotlib.colors import to_hex

from sweep.report.choices import VERDICTS, agreement_counts, choice_agreement

ROWS = pa.Table.from_pylist(
    [
        {
            "task": task,
            "extra": extra,
            "image_id": image,
            "condition": condition,
            "disagree": disagree,
            "ambiguous": tied,
        }
        for task, extra, image, disagree, tied in (
            ("identity", "", "a", True, False),
            ("identity", "", "b", True, False),
            ("identity", "", "c", False, False),
            ("identity", "", "d", True, True),
            ("identity", "", "e", None, False),
            ("hair", "size=big", "a", False, False),
        )
        for condition in ("x", "y")
    ]
)


def test_each_image_counts_once() -> None:
    assert agreement_counts(ROWS) == {
        "identity": {"different": 2, "the same": 1, "tied": 1, "no choice": 1},
        "hair, size=big": {"different": 0, "the same": 1, "tied": 0, "no choice": 0},
    }


def test_bars_are_as_long_as_the_counts_and_follow_each_other() -> None:
    panel = choice_agreement(ROWS).axes[0]
    first: list[Any] = panel.patches[:4]
    assert [bar.get_width() for bar in first] == [2, 1, 1, 1]
    assert [bar.get_x() for bar in first] == [0, 2, 3, 4]
    assert [to_hex(bar.get_facecolor()) for bar in first] == [colour.lower() for colour in VERDICTS.values()]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["identity", "hair, size=big"]
