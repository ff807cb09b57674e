"""What all figures share: a look for each condition, files that are the same whenever the data are, and error bars."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations

import matplotlib as mpl
import scipy.stats
from matplotlib.figure import Figure

from sweep.report.fonts import draw_with_every_letter, missing_letters

SIGNED = "RdBu_r"
"""Colour map of relevance: red supports the class, blue speaks against it; safe for colour-blind readers."""
SEQUENTIAL = "cividis"
"""Colour map of areas and similarities, made for colour-blind readers (Nuñez et al. 2018)."""
CONFIDENCE = 0.95
"""Coverage of every band and error bar."""
RESOLUTION = 160
"""Pixels per inch of PNG files."""


@dataclass(frozen=True)
class Style:
    """How one condition is drawn: never by colour alone."""

    name: str
    """What a reader is told it is."""
    colour: str
    marker: str
    dashes: str
    """'-' or '--'."""


_RELATIONS: Mapping[str, Style] = {
    "same_init": Style("the model itself", "#D55E00", "o", "-"),
    "same_task_same_pretraining": Style("another initialisation", "#E69F00", "s", "--"),
    "other_task": Style("other task", "#CC79A7", "^", "-"),
    "other_pretraining": Style("other pretraining", "#56B4E9", "D", "-"),
    "other_both": Style("other pretraining and task", "#0072B2", "v", "-"),
    "random": Style("random pixels", "#6B6B6B", "x", "--"),
}
"""The bins of the paper, in the colours of Okabe & Ito (2008)."""
_FURTHER_COLOURS = ("#009E73", "#000000", "#8F7A00")
"""For bins that further factors make."""
_PRETRAINING_COLOURS = ("#882255", "#117733", "#332288", "#999933", "#44AA99", "#661100")
"""Tol's muted scheme: apart from each other, and no colour that stands for a bin."""
_MARKERS = "oD^vsP*X"


@dataclass(frozen=True)
class Styles:
    """The look of every bin and pretraining of a study, the same in all its figures."""

    relations: Mapping[str, Style]
    """By the bin's name in the tables, in the order of legends."""
    pretrainings: Mapping[str, Style]
    """By level."""


def styles_of(relations: Iterable[str], pretrainings: Sequence[str], factors: Sequence[str] = ()) -> Styles:
    """Styles for a study's bins and pretrainings; `factors` are those beyond pretraining and task.

    The bins of the paper look the same in every study; further ones get their looks in alphabetical order.
    """
    present = set(relations)
    spoken = _spoken(factors)
    chosen = {name: style for name, style in _RELATIONS.items() if name in present}
    for index, name in enumerate(sorted(present - set(_RELATIONS))):
        turn, colour = divmod(index, len(_FURTHER_COLOURS))
        chosen[name] = Style(
            spoken.get(name, name.replace("_", " ")),
            _FURTHER_COLOURS[colour],
            _MARKERS[(turn + colour) % len(_MARKERS)],
            "--" if turn % 2 else "-",
        )
    trained = {
        # matplotlib leaves names that begin with '_' out of legends.
        name: Style(
            f" {name}" if name.startswith("_") else name,
            _PRETRAINING_COLOURS[i % len(_PRETRAINING_COLOURS)],
            _MARKERS[i % len(_MARKERS)],
            "-",
        )
        for i, name in enumerate(pretrainings)
    }
    return Styles(chosen, trained)


def _spoken(factors: Sequence[str]) -> dict[str, str]:
    """What a bin's name means, for every set of factors that can differ."""
    every = sorted({"pretraining", "task", *factors})
    sets = (chosen for size in range(1, len(every) + 1) for chosen in combinations(every, size))
    return {"other_" + "_".join(chosen): "other " + _listed(chosen) for chosen in sets}


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the project's style, whatever the user's own matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "font.size": 9,
                "axes.titlesize": 9.5,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "legend.frameon": False,
                "image.interpolation": "nearest",
                "text.parse_math": False,  # a label with two dollar signs is no formula
                "svg.hashsalt": "relevance-sweep",
            }
        )
        yield


def drawn(figure: Figure) -> tuple[bytes, bytes]:
    """The figure as a PNG and an SVG file, without dates: the same data always give the same bytes."""
    png, svg = io.BytesIO(), io.BytesIO()
    with styled():

        def draw() -> None:
            png.seek(0)
            png.truncate()
            figure.savefig(png, format="png", dpi=RESOLUTION)

        draw_with_every_letter(figure, draw)
        figure.set_layout_engine("none")  # both files have the layout that was found for the first
        with missing_letters():  # found for the first file
            figure.savefig(svg, format="svg", metadata={"Date": None})
    return png.getvalue(), svg.getvalue()


def half_width(sem: float | None, n: int) -> float:
    """Half the width of the confidence interval of a mean of `n` values with standard error `sem`, by Student's t.

    0 where a single value has no standard error.
    """
    if sem is None or n < 2:
        return 0.0
    return float(sem * scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
