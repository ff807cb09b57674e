"""Draw the faces that `faces-small` learns from: `python -m tools.render_training_faces --heads ict_heads.npz ...`.

Many identities of the ICT face model, which is independent of the model behind the bundled heads, each painted at
random and seen from random directions in random light. The images are for training only and are not distributed.
Needs the dependency group `render`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np

from sweep.arrays import Array
from tools import head_painting as paint
from tools.head_building import Ball, Sitter, build
from tools.head_mesh import Floats, Mesh, compact
from tools.head_rendering import Light, Rasteriser

log = logging.getLogger(__name__)

SEED = 1997
SIZE = 72

# Heights of chin, lower lip, seam, upper lip, nose base, lower and upper lid, brow ridge and crown: ICT, MakeHuman.
HEIGHTS = (
    (-19.3, -8.1, -4.4, -3.35, -2.75, -1.0, 3.0, 4.05, 5.4, 14.5),
    (5.0, 6.17, 6.487, 6.608, 6.69, 6.81, 7.242, 7.332, 7.45, 8.49),
)
SCALE = 0.098
"""MakeHuman's unit is a decimetre, ICT's nearly a centimetre."""
SKIN_VERTICES = 11_248
"""The skin is the first connected part of the mesh; two nested balls per eye follow."""
EYES = ((11_248, 12_018), (12_818, 13_588))
"""Vertices of one ball of each eye."""


class Ict:
    """The morphable face."""

    def __init__(self, path: Path) -> None:
        """Load it and find for each vertex the place on MakeHuman's average head, where painting is defined."""
        with np.load(path, allow_pickle=False) as data:
            self.vertices = data["vertices"].astype(np.float64)
            self.triangles = data["triangles"].astype(np.int64)
            self.modes = data["shape_offsets"].astype(np.float32)
        self.canonical = np.stack(
            [
                SCALE * self.vertices[:, 0],
                np.interp(self.vertices[:, 1], *HEIGHTS),
                0.5 + 0.0965 * (self.vertices[:, 2] - 0.2),
            ],
            axis=1,
        )
        self.is_skin = self.triangles.max(1) < SKIN_VERTICES

    def draw(self, rng: np.random.Generator) -> tuple[Mesh, list[Ball]]:
        """A random face and its eyes."""
        weights = rng.normal(0, 1, len(self.modes)).astype(np.float32)
        vertices = SCALE * (self.vertices + np.tensordot(weights, self.modes, 1))
        face = compact(Mesh(vertices, self.triangles, self.canonical), self.is_skin)
        return face, [Ball.fit(vertices[start:end]) for start, end in EYES]


def random_lights(rng: np.random.Generator) -> tuple[Light, ...]:
    """A key light from anywhere in front and a weaker one from anywhere."""
    key = (float(rng.uniform(-0.9, 0.9)), float(rng.uniform(-0.1, 0.9)), 0.7)
    fill = (float(rng.uniform(-1, 1)), float(rng.uniform(-0.3, 0.5)), 0.3)
    return (
        Light(key, float(rng.uniform(0.5, 0.95)), float(rng.uniform(0.1, 0.4))),
        Light(fill, float(rng.uniform(0, 0.35)), 0.5),
    )


def yaws(rng: np.random.Generator, count: int) -> Floats:
    """Directions spread evenly over -110 to 110 degrees, with a random place in each interval, in random order."""
    return rng.permutation((np.arange(count) + rng.random(count)) / count * 220 - 110)


def main(arguments: list[str] | None = None) -> int:
    """Render all identities into one .npz: images, labels and which views are held out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=Path, required=True, help="ict_heads.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=200)
    parser.add_argument("--views", type=int, default=25, help="images per identity")
    parser.add_argument("--held-out", type=int, default=4, help="of them, not trained on")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)

    model, rasteriser = Ict(options.heads), Rasteriser(SIZE, supersampling=2)
    images: list[Array] = []
    for identity in range(options.identities):
        rng = np.random.default_rng([SEED, identity])
        ancestry, male = rng.dirichlet([0.5, 0.5, 0.5]), bool(identity % 2)
        face, eyes = model.draw(rng)
        look = paint.draw_look(rng, ancestry, male=male, seed=SEED + identity)
        sitter = Sitter(build(face, eyes, look), rasteriser, directions=10)
        for yaw in yaws(rng, options.views):
            pitch, background = float(rng.normal(0, 4)), float(rng.uniform(0.25, 0.7))
            images.append(sitter.image(float(yaw), pitch, random_lights(rng), background))
        if identity % 20 == 19:
            log.info("%d identities", identity + 1)
    labels = np.repeat(np.arange(options.identities), options.views)
    held_out = np.tile(np.arange(options.views) < options.held_out, options.identities)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(options.out, images=np.stack(images), labels=labels, held_out=held_out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
