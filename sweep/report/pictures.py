"""Pictures made of pictures: kernels, masked images, relevance maps and faces, laid out as one image each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sweep.arrays import Array
from sweep.numerics.masking import removed_count
from sweep.report.style import SIGNED, Styles, styled

GAP = 0.06
"""White space between two tiles, as a share of a tile's side."""
SATURATED = 99.0
"""Percentile of absolute relevance at which the colour of a map is at its strongest; a few pixels lie beyond."""
REMOVED = (255, 230, 128)
"""RGB of a removed pixel in figures: pale yellow, as no grey face has it, whatever the study puts there."""


def conv1_kernels(kernels: Mapping[str, Array]) -> Figure:
    """The kernels of the first convolution, a block per pretraining (paper, Fig. 1).

    `kernels` are (height, width, 3, kernel) with the channels in RGB order. Each kernel is scaled by its own
    largest absolute weight; mid-grey is 0.
    """
    columns = 8
    with styled():
        shapes = [-(-block.shape[3] // columns) for block in kernels.values()]
        figure = Figure(figsize=(3.6 * len(kernels), 0.4 + 0.46 * max(shapes)), layout="constrained")
        panels = figure.subplots(1, len(kernels), squeeze=False, gridspec_kw={"wspace": 0.1})
        for panel, (name, block) in zip(panels.flat, kernels.items(), strict=True):
            scaled = 0.5 + block / (2 * np.maximum(np.abs(block).max(axis=(0, 1, 2)), 1e-12))
            tiles = np.ones((-(-block.shape[3] // columns) * columns, *block.shape[:3]))
            tiles[: block.shape[3]] = np.moveaxis(scaled, 3, 0)
            panel.imshow(montage(tiles.reshape(-1, columns, *block.shape[:3]), gap=1))
            panel.set_title(name)
            panel.set_axis_off()
    return figure


def masked_example(face: Array, ranks: Mapping[str, Array], percents: Sequence[float]) -> Figure:
    """One face with ever more pixels removed, a row per order of removal (paper, Fig. 2).

    `face` is RGB uint8 (height, width, 3); `ranks` name each order and give the rank of each pixel in it
    (pixel,), 0 goes first. Removed pixels are pale yellow.
    """
    pixels = face.shape[0] * face.shape[1]
    tiles = np.stack(
        [
            np.stack([masked_face(face, order, removed_count(percent, pixels)) for percent in percents])
            for order in ranks.values()
        ]
    )
    return _labelled(tiles, list(ranks), [f"{percent:g} %" for percent in percents])


def masked_face(face: Array, ranks: Array, count: int) -> Array:
    """`face` with the first `count` pixels of `ranks` in the colour REMOVED."""
    gone = (ranks < count).reshape(face.shape[:2])
    shown: Array = face.copy()
    shown[gone] = REMOVED
    return shown


def maps_across_models(faces: Array, maps: Array, names: Sequence[str]) -> Figure:
    """Relevance maps of several models for the same faces, each as a map and laid over the face (paper, Fig. 4).

    `faces` are RGB uint8 (face, height, width, 3), `maps` signed relevance (model, face, height, width). All
    maps share one scale.
    """
    limit = saturation(maps)
    rows = []
    for f, face in enumerate(faces):
        rows.append(np.stack([face, *(coloured(own[f], limit) for own in maps)]))
        rows.append(np.stack([face, *(overlaid(face, own[f], limit) for own in maps)]))
    rows_of = np.stack(rows)
    figure = _labelled(rows_of, ["map", "overlay"] * len(faces), ["image", *names])
    with styled():
        scale = ScalarMappable(Normalize(-limit, limit), mpl.colormaps[SIGNED])
        figure.colorbar(
            scale,
            ax=figure.axes[0],
            label="relevance, share of the map's largest",
            shrink=0.5,
            aspect=30,
            extend="both",
        )
    return figure


def saturation(maps: Array) -> float:
    """Absolute relevance at which the colours of `maps` are at their strongest."""
    return max(float(np.percentile(np.abs(maps), SATURATED)), 1e-12)


def coloured(relevance: Array, limit: float) -> Array:
    """A signed map (height, width) as RGB uint8: white is 0, red supports the class, blue speaks against it."""
    colours = mpl.colormaps[SIGNED](Normalize(-limit, limit, clip=True)(relevance))
    rgb: Array = np.round(colours[..., :3] * 255).astype(np.uint8)
    return rgb


def overlaid(face: Array, relevance: Array, limit: float) -> Array:
    """The map's colours over the face in grey, the stronger the more opaque; RGB uint8."""
    grey = face.astype(np.float64) @ [0.299, 0.587, 0.114]
    strength = np.clip(np.abs(relevance) / limit, 0, 1)[..., None]
    mixed = strength * coloured(relevance, limit) + (1 - strength) * grey[..., None]
    return np.round(mixed).astype(np.uint8)


@dataclass(frozen=True)
class RankTwo:
    """A face and, per pretraining, the identity that its models find most similar."""

    target: str
    face: Array
    """RGB uint8, (height, width, 3)."""
    choices: Mapping[str, tuple[str, Array | None, str]]
    """By pretraining: the class chosen, a face of it (None where there is none), and the votes in words."""


def rank2_faces(targets: Sequence[RankTwo], styles: Styles) -> Figure:
    """Target faces and below each the rank-2 face of every pretraining, with the votes for it (paper, Fig. 7).

    The targets must have the same pretrainings. What people prefer is a figure of its own (`people_figure`).
    """
    names = list(targets[0].choices)
    blank = np.full_like(targets[0].face, 255)
    rows = [[target.face for target in targets]]
    for name in names:
        rows.append([blank if (face := target.choices[name][1]) is None else face for target in targets])
    tiles = np.stack([np.stack(row) for row in rows])
    figure = _labelled(tiles, ["shown", *names], [target.target for target in targets])
    with styled():
        panel = figure.axes[0]
        for label, name in zip(panel.get_yticklabels()[1:], names, strict=True):
            label.set_color(styles.pretrainings[name].colour)
        for column, target in enumerate(targets):
            for row, name in enumerate(names, 1):
                chosen, _, votes = target.choices[name]
                x, y = _centre(row, column, tiles)
                panel.text(
                    x,
                    y + 0.5 * tiles.shape[2],
                    f"{chosen}  {votes}",
                    ha="center",
                    va="bottom",
                    fontsize=6.5,
                    bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1},
                )
    return figure


def montage(tiles: Array, gap: int) -> Array:
    """Tiles (row, column, height, width, channel) as one image, `gap` white pixels between them."""
    rows, columns, height, width, channels = tiles.shape
    white = 255 if tiles.dtype == np.uint8 else 1
    whole = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels), white, dtype=tiles.dtype
    )
    for row in range(rows):
        for column in range(columns):
            y, x = row * (height + gap), column * (width + gap)
            whole[y : y + height, x : x + width] = tiles[row, column]
    return whole


def _labelled(tiles: Array, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """A montage with a name for each row and column."""
    with styled():
        figure = Figure(
            figsize=(1.0 + 1.1 * len(columns), 0.4 + 1.1 * len(rows) * tiles.shape[2] / tiles.shape[3]),
            layout="constrained",
        )
        panel = figure.subplots()
        panel.imshow(montage(tiles, _gap(tiles)))
        panel.set_yticks([_centre(row, 0, tiles)[1] for row in range(len(rows))], rows)
        names = [_wrapped(name) for name in columns]
        panel.set_xticks([_centre(0, column, tiles)[0] for column in range(len(columns))], names)
        panel.tick_params(length=0, labeltop=True, labelbottom=False)
        panel.spines[:].set_visible(False)
    return figure


def _wrapped(name: str) -> str:
    """A model's name in lines that fit over a tile, broken between levels."""
    lines = [""]
    for part in name.split("-"):
        joined = f"{lines[-1]}-{part}" if lines[-1] else part
        if len(joined) > 13 and lines[-1]:
            lines[-1] += "-"
            lines.append(part)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def _gap(tiles: Array) -> int:
    return max(1, round(GAP * int(tiles.shape[2])))


def _centre(row: int, column: int, tiles: Array) -> tuple[float, float]:
    """Column and row, in pixels, of the middle of a tile in a montage."""
    height, width = tiles.shape[2] + _gap(tiles), tiles.shape[3] + _gap(tiles)
    return column * width + (tiles.shape[3] - 1) / 2, row * height + (tiles.shape[2] - 1) / 2
