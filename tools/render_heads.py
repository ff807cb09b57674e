"""Render the bundled `heads` dataset: `python -m tools.render_heads --heads makehuman_heads.npz`.

101 identities (51 female, 50 male) of the MakeHuman morphable head, each seen from 15 directions. Gender is known
because it is an input of the head's shape. Needs the dependency group `render`; seeded throughout.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from sweep.arrays import Array
from tools import head_painting as paint
from tools.head_building import Ball, Sitter, build
from tools.head_mesh import Floats, Mesh, boundary_loops, close_hole, compact, smooth
from tools.head_painting import Look
from tools.head_rendering import LIGHTS, Rasteriser

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "sweep" / "data" / "bundled" / "heads.parquet"
SHEET = ROOT / "docs" / "heads-contact-sheet.png"

SEED = 20_200_629
IDENTITIES = 101
VIEWS = tuple(range(-105, 106, 15))
SIZE = 112
CANDIDATES = 10
"""Looks drawn per identity, of which one is taken."""
SPREAD, LIMIT = 0.24, 0.45
"""Standard deviation and bound of the weights of shape targets; larger ones make caricatures."""
DIMORPHISM = {
    "chin/chin-width": 0.24,
    "chin/chin-height": 0.19,
    "chin/chin-prominent": 0.16,
    "nose/nose-volume": 0.16,
    "nose/nose-scale-vert": 0.13,
    "cheek/cheek-volume": -0.13,
    "eyes/eye-height2": -0.16,
    "mouth/mouth-lowerlip-volume": -0.19,
    "mouth/mouth-upperlip-volume": -0.19,
    "neck/measure-neck-circ": 0.35,
}
"""Mean weight of some shape axes in men, and its negative in women, beside the model's own difference of the sexes:
jaw, chin, nose and neck are larger, lips and eyes smaller."""
BACKGROUND = 0.47


@dataclass(frozen=True)
class Person:
    """One identity, apart from the details of its shape."""

    name: str
    male: bool
    ancestry: Floats
    """Weights of MakeHuman's three."""
    look: Look
    rng: np.random.Generator
    """Draws the shape."""


class MakeHuman:
    """The morphable head."""

    def __init__(self, path: Path) -> None:
        """Load the arrays and pair opposite shape targets into axes."""
        with np.load(path, allow_pickle=False) as data:
            self.vertices = data["vertices"].astype(np.float64)
            self.triangles = data["triangles"].astype(np.int64)
            self.is_eye = data["triangle_is_eye"]
            self.shape = data["shape_offsets"].astype(np.float64)
            self.ancestry_sex = data["ancestry_sex_offsets"].astype(np.float64)
            self.sex = data["sex_offsets"].astype(np.float64)
            names = [str(name) for name in data["shape_names"]]
        self.axes = pair_targets(names)

    def morph(self, person: Person) -> Floats:
        """Vertices of a person's head: sex and ancestry as given, the rest at random."""
        rng, male, ancestry = person.rng, person.male, person.ancestry
        vertices: Floats = self.vertices + self.sex[int(male)]
        vertices = vertices + np.tensordot(ancestry, self.ancestry_sex[:, int(male)], 1)
        for axis in self.axes:
            mean = DIMORPHISM.get(axis.name, 0.0) * (1 if male else -1)
            weight = float(np.clip(rng.normal(mean, SPREAD), -LIMIT, LIMIT))
            if axis.name.startswith("neck/"):
                weight *= 0.3
            target = axis.positive if weight > 0 else axis.negative
            if target is not None:
                vertices = vertices + abs(weight) * self.shape[target]
        return vertices


@dataclass(frozen=True)
class Axis:
    """Two opposite shape targets, or one without an opposite."""

    name: str
    positive: int | None
    negative: int | None


OPPOSITES = (
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("compress", "uncompress"),
)


def pair_targets(names: list[str]) -> list[Axis]:
    """Find opposites by their last word; `pointed` ears are left out, they belong to elves."""
    index = {name: i for i, name in enumerate(names)}
    axes, used = [], set()
    for name, i in index.items():
        stem, _, word = name.rpartition("-")
        for low, high in OPPOSITES:
            if word == low and f"{stem}-{high}" in index:
                axes.append(Axis(stem, index[f"{stem}-{high}"], i))
                used |= {name, f"{stem}-{high}"}
    axes += [Axis(name, i, None) for name, i in index.items() if name not in used and "pointed" not in name]
    return axes


def face_and_eyes(head: MakeHuman, vertices: Floats, *, levels: int = 2) -> tuple[Mesh, list[Ball]]:
    """The smoothed skin with its mouth closed, and where the eyeballs are."""
    face = compact(Mesh(vertices, head.triangles, head.vertices), ~head.is_eye)
    # The gap between the lips would show the inside of the head.
    for loop in boundary_loops(face.triangles):
        if abs(face.canonical[loop, 1].mean() - 6.6) < 0.1 and face.canonical[loop, 2].mean() > 1:
            face = close_hole(face, loop, 0.05)
    balls = vertices[np.unique(head.triangles[head.is_eye])]
    return smooth(face, levels), [Ball.fit(balls[np.sign(balls[:, 0]) == side]) for side in (-1, 1)]


def cast() -> Iterator[Person]:
    """All identities; sexes alternate, so 51 are female and 50 male.

    Each takes, of several looks drawn for it, the one least like all before (Mitchell's best candidate): independent
    draws among so many would give look-alikes.
    """
    chosen: list[Floats] = []
    for number in range(1, IDENTITIES + 1):
        rng, male, seed = np.random.default_rng([SEED, number]), number % 2 == 0, SEED + number
        candidates = []
        for _ in range(CANDIDATES):
            ancestry = rng.dirichlet([0.5, 0.5, 0.5])
            candidates.append((ancestry, paint.draw_look(rng, ancestry, male=male, seed=seed)))
        signatures = [paint.signature(look) for _, look in candidates]
        gaps = [min((float(np.linalg.norm(s - c)) for c in chosen), default=0.0) for s in signatures]
        best = int(np.argmax(gaps))
        chosen.append(signatures[best])
        yield Person(f"head-{number:03d}", male, *candidates[best], rng)


def image_id(identity: str, view: int) -> str:
    """Name of an image: m for minus (the head turns towards the viewer's left), p for plus."""
    return f"{identity}-{'m' if view < 0 else 'p'}{abs(view):03d}"


def encode(image: Array) -> bytes:
    """PNG of 8-bit grey."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def contact_sheet(images: dict[str, Array], path: Path) -> None:
    """All frontal faces, and eight identities in all views, at a size that suits a web page."""
    names = sorted({name.rpartition("-")[0] for name in images})
    cell, margin = 64, 8
    shown = names[:: max(1, len(names) // 8)][:8]
    columns = len(VIEWS)
    fronts = -(-len(names) // columns)
    sheet = Image.new("L", (columns * cell, (len(shown) + fronts) * cell + margin), 255)
    for row, name in enumerate(shown):
        for column, view in enumerate(VIEWS):
            tile = Image.fromarray(images[image_id(name, view)]).resize((cell, cell), Image.Resampling.BOX)
            sheet.paste(tile, (column * cell, row * cell))
    for i, name in enumerate(names):
        tile = Image.fromarray(images[image_id(name, 0)]).resize((cell, cell), Image.Resampling.BOX)
        sheet.paste(tile, (i % columns * cell, (len(shown) + i // columns) * cell + margin))
    ImageDraw.Draw(sheet).line(
        [(0, len(shown) * cell + margin // 2), (sheet.width, len(shown) * cell + margin // 2)], 160
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def main(arguments: list[str] | None = None) -> int:
    """Render everything and write the dataset and its contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=Path, required=True, help="makehuman_heads.npz")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--sheet", type=Path, default=SHEET)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)

    head, rasteriser = MakeHuman(options.heads), Rasteriser(SIZE)
    rows: list[dict[str, Any]] = []
    images: dict[str, Array] = {}
    for person in cast():
        name = person.name
        sitter = Sitter(build(*face_and_eyes(head, head.morph(person)), person.look), rasteriser)
        for view in VIEWS:
            image = sitter.image(view, 0, LIGHTS, BACKGROUND)
            images[image_id(name, view)] = image
            rows.append(
                {
                    "image_id": image_id(name, view),
                    "identity": name,
                    "gender": "male" if person.male else "female",
                    "view_deg": float(view),
                    "png": encode(image),
                }
            )
        log.info("%s", name)
    schema = pa.schema(
        [
            ("image_id", pa.string()),
            ("identity", pa.string()),
            ("gender", pa.string()),
            ("view_deg", pa.float32()),
            ("png", pa.binary()),
        ]
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    # PNGs do not shrink further, and neighbouring columns are too small to matter.
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), options.out, compression="none")
    contact_sheet(images, options.sheet)
    log.info(
        "%d bytes, sha256 %s",
        options.out.stat().st_size,
        hashlib.sha256(options.out.read_bytes()).hexdigest(),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
