"""From a morphed face and a look to a painted head with eyes and hair, and from there to images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweep.arrays import Array
from tools import head_painting as paint
from tools.head_mesh import Floats, Mesh, hanging_hair, join, sphere
from tools.head_painting import Look, ramp
from tools.head_rendering import Light, Rasteriser, shade, turn

CHIN, CROWN = 6.17, 8.49
"""Heights on the average head; people differ in stature, so heights of hair are given on that scale."""
FILLED = 0.97
"""Share of the frame's height between the chin and the top of the hair."""
IRIS = 0.47
"""Radius of the iris relative to the eyeball's."""
HAIR_GLOSS = 0.9


@dataclass(frozen=True)
class Ball:
    """An eyeball."""

    centre: Floats
    radius: float

    @classmethod
    def fit(cls, points: Floats) -> Ball:
        """The ball nearest to the points, by linear least squares."""
        system = np.column_stack([2 * points, np.ones(len(points))])
        solution = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0]
        centre = solution[:3]
        return cls(centre, float(np.sqrt(solution[3] + centre @ centre)))


@dataclass(frozen=True)
class Part:
    """A mesh with its paint."""

    mesh: Mesh
    albedo: Floats
    """Reflected share of the light, per vertex."""
    gloss: Floats
    """Strength of the highlight, per vertex."""


@dataclass(frozen=True)
class Head:
    """A painted head ready to be lit and turned."""

    part: Part
    centre: Floats
    """Middle of the frame and pivot of all turns."""
    height: float
    """Height of the frame."""


@dataclass(frozen=True)
class Skull:
    """The measures that hair and frame depend on."""

    chin: float
    crown: float
    axis_z: float

    @classmethod
    def measure(cls, face: Mesh) -> Skull:
        """Measure a bald head."""
        p, v = face.canonical, face.vertices
        depth = v[p[:, 1] > 7.4, 2]
        front = (p[:, 2] > 1.1) & (p[:, 1] > 6.1)
        return cls(float(v[front, 1].min()), float(v[:, 1].max()), float(depth.min() + depth.max()) / 2)

    def height_of(self, canonical: float) -> float:
        """Height on this head of a height on the average head."""
        return self.chin + (canonical - CHIN) / (CROWN - CHIN) * (self.crown - self.chin)


def painted_face(face: Mesh, look: Look) -> Part:
    """Skin and the hair that lies on it."""
    p = face.canonical
    cover, fringe = paint.scalp(p, look), paint.fringe(p, look)
    opacity = np.maximum(look.cover * cover, fringe)
    tone, gloss = paint.skin(p, look)
    over = np.maximum(cover, fringe)
    return Part(
        raised_hair(face, look, cover, fringe),
        (1 - opacity) * tone + opacity * paint.hair_tone(p, look),
        gloss * (1 - over) + HAIR_GLOSS * over * (look.cover > 0.9),
    )


def raised_hair(face: Mesh, look: Look, cover: Floats, fringe: Floats) -> Mesh:
    """Hair stands off the scalp along the normals, most of it on top, least at its edge."""
    p = face.canonical
    inner = 0.25 + 0.75 * ramp(paint.scalp_depth(p, look), 0.0, 0.35)
    top = ramp(p[:, 1], 7.25, 8.3)
    thickness = (look.side_volume * (1 - top) + look.volume * top) * cover * inner
    thickness = np.maximum(thickness, 0.03 * fringe)
    thickness = thickness * (1 + 0.12 * paint.waves(p, 0.25, np.random.default_rng([look.seed, 9])))
    outwards = face.normals() + np.array([0.0, 0.25, 0.0]) * top[:, None]
    return face.moved(outwards * thickness[:, None])


def long_hair(face: Mesh, look: Look, skull: Skull) -> Part:
    """A curtain of hair around the back of a head with raised hair."""
    p = face.canonical
    # Hair that begins in front of the ears hides them; hair that begins behind them is tucked back.
    over_ears = (paint.ears(p) > 0.2) & (look.opening < np.pi / 2)
    carrying = face.vertices[((paint.scalp(p, look) > 0.5) | over_ears) & (p[:, 1] > 6.9)]
    hair = hanging_hair(
        carrying,
        axis_z=skull.axis_z - 0.05,
        top=float(carrying[:, 1].max()) - 0.35,
        bottom=skull.height_of(look.length),
        opening=look.opening,
        thickness=0.1 + look.side_volume,
        taper=0.12,
    )
    return Part(hair, paint.hanging_tone(hair.canonical, look), np.full(len(hair.vertices), HAIR_GLOSS))


def bun(face: Mesh, look: Look) -> Part:
    """Hair tied together at the back of a head with raised hair."""
    p = face.canonical
    back = face.vertices[
        (paint.scalp(p, look) > 0.5) & (p[:, 2] < 0.3) & (np.abs(p[:, 1] - look.bun_height) < 0.15)
    ]
    anchor = back[back[:, 2].argmin()]
    ball = sphere(np.array([0, anchor[1], anchor[2] - 0.6 * look.bun]), look.bun)
    tone = paint.hair_tone(ball.canonical + np.array([0, 7, 0.35]), look)
    return Part(ball, tone, np.full(len(ball.vertices), HAIR_GLOSS))


def build(face: Mesh, eyes: list[Ball], look: Look) -> Head:
    """Paint a face without eyes, and give it eyes and hair."""
    skull = Skull.measure(face)
    parts = [painted_face(face, look)]
    haired = parts[0].mesh
    for eye in eyes:
        ball = sphere(eye.centre, eye.radius)
        parts.append(Part(ball, *paint.eyeball(ball.canonical, look, IRIS)))
    if look.length:
        parts.append(long_hair(haired, look, skull))
    if look.bun:
        parts.append(bun(haired, look))

    # The frame depends on chin and hair, the pivot on the skull: nothing of it differs between views.
    high = float(haired.vertices[:, 1].max())
    height = (high - skull.chin) / FILLED
    centre = np.array([0.0, (high + skull.chin) / 2 + 0.005 * height, skull.axis_z])
    whole = Part(
        join(*(part.mesh for part in parts)),
        np.concatenate([part.albedo for part in parts]),
        np.concatenate([part.gloss for part in parts]),
    )
    return Head(whole, centre, height)


def tone_curve(light: Floats) -> Floats:
    """Display gamma, with highlights rolled off instead of clipped."""
    shown: Floats = np.clip(1 - np.exp(-1.35 * light), 0, 1) ** (1 / 1.5)
    return shown


class Sitter:
    """A head in front of the camera; what all its images share is computed once."""

    def __init__(self, head: Head, rasteriser: Rasteriser, directions: int = 20) -> None:
        """Find out how much of the sky each vertex sees."""
        self.head, self.rasteriser = head, rasteriser
        self.openness = rasteriser.openness(head.part.mesh, directions)
        self.normals = head.part.mesh.normals()

    def image(self, yaw: float, pitch: float, lights: tuple[Light, ...], background: float) -> Array:
        """The head turned by `yaw` and `pitch` degrees."""
        part, centre = self.head.part, self.head.centre
        vertices = turn(part.mesh.vertices - centre, yaw, pitch) + centre
        turned = Mesh(vertices, part.mesh.triangles, part.mesh.canonical)
        light = shade(part.albedo, turn(self.normals, yaw, pitch), self.openness, part.gloss, lights)
        return self.rasteriser.image(turned, tone_curve(light), centre, self.head.height, background)
