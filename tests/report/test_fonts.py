"""Labels in any script: readable, or said to be missing; never boxes without a word."""

import re
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from sweep.report.fonts import fonts_with
from sweep.report.style import drawn, styled, styles_of


@pytest.fixture(autouse=True)
def _own_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the fonts that come with matplotlib, whatever this machine has."""
    own = [entry for entry in fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    fonts_with.cache_clear()
    fontManager._findfont_cached.cache_clear()  # type: ignore[attr-defined]


def a_font_with(letters: str, path: Path) -> None:
    """A font in which each of `letters` is a filled square."""
    pen = TTGlyphPen(None)
    for number, place in enumerate([(0, 0), (0, 700), (700, 700), (700, 0)]):
        (pen.lineTo if number else pen.moveTo)(place)
    pen.closePath()
    names = [".notdef", *(f"letter{ord(letter)}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"letter{ord(letter)}" for letter in letters})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares Sans", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def figure_of(label: str) -> Figure:
    with styled():
        figure = Figure(layout="constrained")
        panel = figure.subplots()
        panel.plot([0, 1], [0, 1], label=label)
        panel.set_title(label)
        panel.set_xticks([0, 1], [label, "plain"])
        figure.legend()
    return figure


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_letters_that_no_font_has_are_said_in_the_figure() -> None:
    figure = figure_of("東京")
    png, svg = drawn(figure)
    assert "Boxes are letters that no font found here has (CJK); install one, such as Noto Sans." in words(
        figure
    )
    assert png.startswith(b"\x89PNG")
    assert svg.rstrip().endswith(b"</svg>")
    again = figure_of("東京")
    assert drawn(again) == (png, svg)
    many = figure_of("東नகአ")
    drawn(many)
    assert re.search(r"\(CJK, Devanagari, Ethiopic and others\)", words(many))


def test_a_font_that_has_the_letters_is_used(tmp_path: Path) -> None:
    a_font_with("東京", tmp_path / "squares.ttf")
    fontManager.addfont(tmp_path / "squares.ttf")
    figure = figure_of("東京 p1")
    png, _ = drawn(figure)
    assert "Boxes are letters" not in words(figure)
    labelled = [text for text in figure.findobj(Text) if "東" in text.get_text()]
    assert len(labelled) == 4  # title, legend, and the tick, which matplotlib holds twice
    assert {tuple(text.get_fontfamily()) for text in labelled} == {("DejaVu Sans", "Squares Sans")}
    assert fonts_with("東京न") == (("Squares Sans",), "न")
    assert png != drawn(figure_of("京東 p2"))[0]


def test_ordinary_labels_and_dollars_are_drawn_as_they_are() -> None:
    plain = figure_of("Zoé Ångström Ελένη Иван $5 and $\\nofunc$")
    drawn(plain)
    assert "Boxes are letters" not in words(plain)
    assert "font found" not in words(plain)


def test_other_warnings_are_passed_on() -> None:
    figure = figure_of("a")
    figure.axes[0].set_yscale("log")
    figure.axes[0].plot([0, 1], np.array([1, 2]))
    figure.axes[0].legend()
    figure.set_size_inches(0.2, 0.2)
    with pytest.warns(UserWarning, match="constrained_layout not applied"):
        drawn(figure)


def test_a_pretraining_whose_name_begins_with_an_underscore_is_in_the_legend() -> None:
    figure = figure_of(styles_of([], ["_x"]).pretrainings["_x"].name)
    drawn(figure)
    assert [text.get_text().strip() for text in figure.legends[0].get_texts()] == ["_x"]
