"""Letters that matplotlib's own font lacks: another font that has them, or a line in the figure that says so."""

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

OWN = "DejaVu Sans"
"""The font that comes with matplotlib."""
PLACEHOLDERS = "Last Resort"
"""Fonts of this name have a box for every letter and a shape for none."""
_MISSING = re.compile(r"Glyph (\d+) \(.*\) missing from font")


def draw_with_every_letter(figure: Figure, draw: Callable[[], None]) -> None:
    """Call `draw`, and once more with other fonts if letters were missing; what no font has is said in the figure."""
    with missing_letters() as missing:
        draw()
    if not missing:
        return
    fonts, unknown = fonts_with("".join(sorted(missing)))
    for text in figure.findobj(Text):
        if isinstance(text, Text) and missing.intersection(text.get_text()):
            text.set_fontfamily([OWN, *fonts])
    if unknown:
        _say(figure, unknown)
    with missing_letters():  # those that are said to be missing
        draw()


@lru_cache(maxsize=64)
def fonts_with(letters: str) -> tuple[tuple[str, ...], str]:
    """Installed fonts that have `letters` between them, as few as possible, and the letters that none has."""
    owners: dict[str, set[str]] = {}
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        if entry.style != "normal" or PLACEHOLDERS in entry.name or entry.name in owners:
            continue
        try:
            font = get_font(entry.fname)
        except (OSError, RuntimeError):  # removed or damaged since matplotlib listed it
            continue
        owners[entry.name] = {letter for letter in letters if font.get_char_index(ord(letter))}
    chosen: list[str] = []
    left = set(letters)
    while left and owners:
        # Of equal fonts a sans-serif one, as all other text is.
        best = max(sorted(owners), key=lambda name: (len(owners[name] & left), "Sans" in name))
        if not owners[best] & left:
            break
        chosen.append(best)
        left -= owners[best]
    return tuple(chosen), "".join(sorted(left))


def _say(figure: Figure, letters: str) -> None:
    """Write under the figure which letters it lacks."""
    scripts = sorted({unicodedata.name(letter, "unnamed").split()[0].title() for letter in letters})
    scripts = ["CJK" if script == "Cjk" else script for script in scripts]
    engine, height = figure.get_layout_engine(), 12 / 72 / figure.get_size_inches()[1]
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, height, 1, 1 - height))
    figure.text(
        0.01,
        height / 2,
        f"Boxes are letters that no font found here has ({_few(scripts)}); install one, such as Noto Sans.",
        fontsize=6.5,
        color="#B00020",
        ha="left",
        va="center",
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and others"


@contextmanager
def missing_letters() -> Iterator[set[str]]:
    """Collect the letters that matplotlib says it has no shape for; other warnings are passed on."""
    missing: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield missing
    missing.update(_pass_on(caught))


def _pass_on(caught: Iterable[warnings.WarningMessage]) -> Iterator[str]:
    for warning in caught:
        if found := _MISSING.match(str(warning.message)):
            yield chr(int(found[1]))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
