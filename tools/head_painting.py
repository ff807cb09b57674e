"""What an identity's skin, brows, lips, beard, eyes and hair look like, and painting it on the vertices.

Everything is drawn in the coordinates of the MakeHuman average head (eyes at y = 7.29, chin at 6.17, crown at 8.49,
nose tip at z = 1.68), in tones of grey: 0 absorbs all light, 1 none.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from tools.head_mesh import Floats

UPPER_LIP = np.array([(0, 6.672), (0.08, 6.697), (0.14, 6.678), (0.21, 6.645), (0.268, 6.61)])
LOWER_LIP = np.array([(0, 6.487), (0.055, 6.489), (0.13, 6.513), (0.19, 6.545), (0.24, 6.58), (0.268, 6.61)])
"""Outlines of the lips on the right half, (|x|, y)."""

EYE_OPENING = np.array(
    [
        *(
            (0.165, 7.262),
            (0.21, 7.29),
            (0.24, 7.312),
            (0.28, 7.326),
            (0.33, 7.332),
            (0.38, 7.326),
            (0.42, 7.31),
        ),
        *(
            (0.442, 7.288),
            (0.42, 7.268),
            (0.38, 7.25),
            (0.33, 7.242),
            (0.28, 7.246),
            (0.24, 7.255),
            (0.2, 7.26),
        ),
    ]
)
"""Rim of the right eye's opening, (|x|, y): first the upper lid from the inner corner outwards, then the lower."""


@dataclass(frozen=True)
class Look:
    """How one identity is painted."""

    skin: float
    """Albedo of the skin."""
    lips: float
    """Albedo of the lips relative to the skin."""
    cheeks: float
    """Darkening of the cheeks."""
    eye_shade: float
    """Darkening around the eyes."""
    lash: float
    """Darkness of the line along the upper lid."""
    iris: float
    """Albedo of the iris."""
    hair: float
    """Albedo of the hair."""
    streaks: float
    """Contrast between the strands."""
    hairline: float
    """Height of the hairline above the middle of the forehead."""
    recession: float
    """How far the hairline draws back above the temples."""
    peak: float
    """How far it comes down in the middle."""
    sideburn: float
    """Height at which the sideburns end."""
    nape: float
    """Height at which the hair ends at the back."""
    cover: float
    """Opacity of the hair on the scalp; below 1 the skin shines through, as it does on a shaved head."""
    volume: float
    """Thickness of the hair on top."""
    side_volume: float
    """Thickness of the hair at the sides and the back."""
    length: float
    """Height down to which long hair hangs; 0 for none."""
    opening: float
    """Angle from straight ahead, in radians, at which long hair begins."""
    bun: float
    """Radius of a bun at the back; 0 for none."""
    bun_height: float
    """Where the bun sits."""
    fringe: float
    """How far hair hangs over the forehead below the hairline; 0 for none."""
    parting: float
    """Where the hair parts, as x of the crown."""
    brow: float
    """Opacity of the brows."""
    brow_thickness: float
    """Half their thickness."""
    brow_height: float
    """Their height above the average."""
    brow_arch: float
    """How far they rise in the outer half."""
    brow_slope: float
    """How far they rise from the inner to the outer end."""
    brow_gap: float
    """|x| of their inner end."""
    brow_end: float
    """|x| of their outer end."""
    stubble: float
    """Opacity of the beard on cheeks and jaw."""
    moustache: float
    """Opacity above the lip."""
    chin_beard: float
    """Opacity on the chin."""
    beard_line: float
    """Height of the beard's edge on the cheek."""
    moles: tuple[tuple[float, float, float], ...]
    """(x, y, radius) of dark spots on the face."""
    seed: int
    """Of the irregularities."""


def ramp(values: Floats, low: float, high: float) -> Floats:
    """0 below `low`, 1 above `high`, smooth in between; falling if `low` is above `high`."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def near_curve(x: Floats, y: Floats, curve: Floats) -> Floats:
    """Distance to a polyline."""
    best = np.full(len(x), np.inf)
    points = np.stack([x, y], axis=1)
    for start, end in itertools.pairwise(curve):
        along = end - start
        t = np.clip(((points - start) @ along) / (along @ along), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - start - t[:, None] * along, axis=1))
    return best


def waves(points: Floats, scale: float, rng: np.random.Generator, count: int = 24) -> Floats:
    """Smooth noise of about unit size with features of about `scale`."""
    directions = rng.normal(size=(count, points.shape[1])) / scale
    phases = rng.uniform(0, 2 * np.pi, count)
    total: Floats = np.cos(points @ directions.T + phases).sum(1) / np.sqrt(count / 2)
    return total


def ears(p: Floats) -> Floats:
    """1 on the ears, 0 elsewhere."""
    offset = ((p[:, 2] - 0.5) / 0.19) ** 2 + ((p[:, 1] - 7.1) / 0.29) ** 2
    return ramp(offset, 1.15, 0.95) * (np.abs(p[:, 0]) > 0.5)


def scalp_depth(p: Floats, look: Look) -> Floats:
    """Height above the edge of the hair: negative on the face, the ears' surroundings and the neck."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    rng = np.random.default_rng([look.seed, 1])
    edge = 0.012 * waves(p, 0.09, rng) + 0.006 * waves(p, 0.03, rng)
    front = look.hairline - look.peak * np.exp(-((x / 0.13) ** 2))
    front = front + look.recession * np.exp(-(((x - 0.36) / 0.2) ** 2))
    # The lowest point with hair as a function of z, from the nape over the ear and the sideburn to the temple.
    lowest = np.interp(
        z + 0.02 * waves(p[:, 1:2], 0.2, rng),
        [-0.4, -0.1, 0.30, 0.34, 0.66, 0.68, 0.80, 0.86, 1.0, 1.12],
        [
            look.nape,
            look.nape,
            look.nape + 0.12,
            7.34,
            7.36,
            look.sideburn,
            look.sideburn + 0.05,
            7.5,
            7.72,
            7.86,
        ],
    )
    blend = ramp(z, 1.02, 1.24)
    above: Floats = y + edge - (1 - blend) * lowest - blend * front
    return above


def scalp(p: Floats, look: Look) -> Floats:
    """Where hair grows, 0-1."""
    hairy: Floats = ramp(scalp_depth(p, look), -0.03, 0.05) * (1 - ears(p))
    return hairy


def hair_tone(p: Floats, look: Look) -> Floats:
    """Albedo of the hair: strands that run from the crown outwards."""
    rng = np.random.default_rng([look.seed, 2])
    around = np.arctan2(p[:, 0] - look.parting, p[:, 2] - 0.35)
    height = (p[:, 1:2] - 7.0) * 0.08
    strands = np.concatenate([np.cos(around)[:, None], np.sin(around)[:, None], height], axis=1)
    tone = 0.6 * waves(strands, 0.06, rng) + 0.4 * waves(strands, 0.025, rng)
    return look.hair * np.exp(look.streaks * tone)


def hanging_tone(q: Floats, look: Look) -> Floats:
    """Albedo of hanging hair, whose canonical coordinates are (azimuth, fraction of the length): goes on above."""
    height = 8.1 - 0.8 * q[:, 1]
    return hair_tone(np.stack([look.parting + np.sin(q[:, 0]), height, 0.35 + np.cos(q[:, 0])], axis=1), look)


def fringe(p: Floats, look: Look) -> Floats:
    """Hair lying on the forehead."""
    if look.fringe == 0:
        return np.zeros(len(p))
    rng = np.random.default_rng([look.seed, 4])
    ragged = 0.02 * waves(p[:, :1], 0.03, rng) + 0.015 * waves(p[:, :1], 0.1, rng)
    lean = 0.12 * look.parting / 0.3 * p[:, 0]
    lowest = look.hairline - look.fringe + 0.35 * p[:, 0] ** 2 * (look.fringe < 0.3) + lean + ragged
    return ramp(p[:, 1] - lowest, -0.01, 0.02) * ramp(p[:, 2], 0.8, 0.95)


def beard(p: Floats, look: Look) -> Floats:
    """Opacity of facial hair."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    rng = np.random.default_rng([look.seed, 5])
    edge = 0.02 * waves(p, 0.12, rng)
    # The cheek's edge runs from the sideburn down to the corner of the mouth.
    cheek = look.beard_line + 0.5 * np.clip(1.25 - z, 0, 0.5)
    jaw = ramp(cheek - y + edge, -0.06, 0.06) * ramp(z, 0.5, 0.72) * ramp(y - 0.45 * (1.2 - z), 5.75, 5.95)
    mouth = ramp(near_mouth(x, y), 0.014, -0.005)
    lip = (
        ramp(y + edge, 6.69, 6.74)
        * ramp(y + edge, 6.84, 6.79)
        * ramp(x + edge, 0.34, 0.27)
        * ramp(z, 1.2, 1.3)
    )
    side = (
        ramp(y, 6.44, 6.5)
        * ramp(y, 6.74, 6.68)
        * ramp(np.abs(x - 0.29 + edge), 0.09, 0.01)
        * ramp(z, 1.1, 1.2)
    )
    chin = ramp(y + edge, 6.48, 6.38) * ramp(x + edge, 0.32, 0.17) * ramp(z, 0.95, 1.1) * ramp(y, 6.0, 6.1)
    total = np.maximum.reduce(
        [
            look.stubble * jaw,
            look.moustache * lip,
            look.chin_beard * chin,
            min(look.moustache, look.chin_beard) * side,
        ]
    )
    uneven: Floats = np.clip(0.93 + 0.07 * waves(p, 0.03, rng), 0, 1)
    opacity: Floats = total * (1 - mouth) * uneven
    return opacity


def near_mouth(x: Floats, y: Floats) -> Floats:
    """Signed height above the lips' outline: negative inside."""
    upper = np.interp(x, UPPER_LIP[:, 0], UPPER_LIP[:, 1])
    lower = np.interp(x, LOWER_LIP[:, 0], LOWER_LIP[:, 1])
    return np.where(x > 0.275, np.inf, np.maximum(y - upper, lower - y))


def skin(p: Floats, look: Look) -> tuple[Floats, Floats]:
    """Albedo and gloss of the face without hair on the scalp."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    rng = np.random.default_rng([look.seed, 6])
    front = ramp(z, 0.9, 1.15)
    tone = look.skin * (1 + 0.035 * waves(p, 0.35, rng) + 0.02 * waves(p, 0.1, rng))
    tone *= 1 - look.cheeks * np.exp(-((x - 0.42) ** 2 + (y - 6.98) ** 2) / 0.035) * front
    tone *= 1 - 0.06 * ears(p)
    socket = np.exp(-(((x - 0.3) / 0.2) ** 2) - ((y - 7.27) / 0.11) ** 2)
    tone *= 1 - look.eye_shade * socket * front

    for mole_x, mole_y, radius in look.moles:
        distance = np.hypot(p[:, 0] - mole_x, y - mole_y)
        tone *= 1 - 0.6 * ramp(distance, radius, 0.5 * radius) * front

    inside = near_mouth(x, y)
    lips = ramp(inside, 0.012, -0.012) * ramp(z, 1.15, 1.25)
    tone *= 1 - (1 - look.lips) * lips
    seam = ramp(np.abs(y - 6.608), 0.012, 0.003) * ramp(x, 0.275, 0.25) * ramp(z, 1.15, 1.25)
    tone *= 1 - 0.55 * seam

    upper_lid, lower_lid = EYE_OPENING[:8], EYE_OPENING[7:]
    lash = ramp(near_curve(x, y, upper_lid), 0.022, 0.006)
    tone *= 1 - look.lash * lash * front
    tone *= 1 - 0.35 * look.lash * ramp(near_curve(x, y, lower_lid), 0.014, 0.004) * front
    crease = near_curve(x, y, upper_lid + np.array([0.0, 0.045]))
    tone *= 1 - 0.12 * ramp(crease, 0.016, 0.0) * front

    hairs = brow(p, look)
    tone = (1 - hairs) * tone + hairs * np.minimum(look.hair, 0.8 * look.skin) * 0.8
    facial = beard(p, look)
    tone = (1 - facial) * tone + facial * np.minimum(look.hair, 0.7 * look.skin)
    gloss = 0.5 + 0.3 * lips - 0.4 * np.maximum(hairs, facial)
    return tone, gloss


def brow(p: Floats, look: Look) -> Floats:
    """Opacity of the brows: thick in the inner half, thin at the outer end."""
    x, y = np.abs(p[:, 0]), p[:, 1]
    t = (x - look.brow_gap) / (look.brow_end - look.brow_gap)
    s = np.clip(t, 0, 1)
    middle = 7.445 + look.brow_height + look.brow_slope * s + look.brow_arch * (1 - ((s - 0.62) / 0.62) ** 2)
    half = look.brow_thickness * np.interp(s, [0, 0.15, 0.6, 1], [0.8, 1, 0.85, 0.3])
    rng = np.random.default_rng([look.seed, 7])
    hairs = 0.1 * half * waves(np.stack([x * 1.0, y * 0.6], axis=1), 0.012, rng)
    distance = np.abs(y - middle) + hairs
    across = ramp(distance, 1.3 * look.brow_thickness, 0) * ramp(distance - half, 0.014, -0.008)
    along = ramp(t, -0.06, 0.06) * ramp(t, 1.04, 0.94)
    opacity: Floats = look.brow * np.minimum(1, 1.6 * across) * along * ramp(p[:, 2], 0.8, 1.0)
    return opacity


def eyeball(unit: Floats, look: Look, iris_size: float) -> tuple[Floats, Floats]:
    """Albedo and gloss on a unit ball that looks along +z; `iris_size` is the iris' radius on it."""
    radius = np.hypot(unit[:, 0], unit[:, 1]) + 10 * (unit[:, 2] < 0)
    rng = np.random.default_rng([look.seed, 8])
    fibres = 1 + 0.12 * waves(unit[:, :2] / np.maximum(radius, 1e-6)[:, None], 0.15, rng)
    iris = look.iris * fibres * (1 - 0.5 * ramp(radius / iris_size, 0.75, 1.0))
    tone = 0.78 * (1 - 0.3 * ramp(radius, 0.6, 1.0))
    tone = tone + (iris - tone) * ramp(radius / iris_size, 1.06, 0.97)
    tone = tone + (0.015 - tone) * ramp(radius / iris_size, 0.46, 0.38)
    return tone, np.full(len(unit), 2.4)


def signature(look: Look) -> Floats:
    """What strikes the eye about a look, on scales where a difference of 1 is plain to see."""
    return np.array(
        [
            look.skin / 0.12,
            np.log(look.hair) / 0.6,
            look.volume / 0.12,
            look.side_volume / 0.09,
            look.cover / 0.3,
            (look.length > 0) * (8.5 - look.length) / 1.5,
            (look.length > 0) * look.opening / 0.5,
            (look.bun > 0) * 1.5,
            (look.bun > 0) * (look.bun_height - 7) / 0.6,
            look.fringe / 0.2,
            look.hairline / 0.1,
            look.recession / 0.12,
            look.stubble / 0.4,
            look.moustache / 0.4,
            look.chin_beard / 0.5,
            look.brow * look.brow_thickness / 0.015,
            look.lips / 0.15,
        ]
    )


def draw_look(rng: np.random.Generator, ancestry: Floats, *, male: bool, seed: int) -> Look:
    """A random look; `ancestry` are the weights of (caucasian, asian, african) and shift the tones."""
    skin_tone = float(
        np.clip(ancestry @ [0.75, 0.65, 0.35] + rng.normal(-0.025 if male else 0.025, 0.08), 0.22, 0.88)
    )
    fair = float(ancestry[0]) * rng.random()
    # From black over brown to blond and grey; hair that outshines the skin would look like a wig.
    tone = float(rng.choice([0.04, 0.1, 0.19, 0.32, 0.5], p=[0.3, 0.24, 0.2, 0.15, 0.11]))
    hair = min(tone * float(np.exp(rng.normal(0, 0.15))), 0.85 * skin_tone)
    style = str(
        rng.choice(
            ["shaved", "buzz", "short", "full", "back", "bob", "long", "fringe"],
            p=[0.12, 0.22, 0.4, 0.22, 0.005, 0.0, 0.005, 0.03]
            if male
            else [0.0, 0.0, 0.01, 0.06, 0.28, 0.28, 0.29, 0.08],
        )
    )
    bearded = male and rng.random() < 0.5
    beard_kind = str(rng.choice(["stubble", "full", "goatee", "moustache"], p=[0.35, 0.3, 0.2, 0.15]))
    hanging = style in ("bob", "long")
    return Look(
        skin=skin_tone,
        lips=float(rng.uniform(0.74, 0.94) if male else rng.uniform(0.4, 0.68)),
        cheeks=float(rng.uniform(0, 0.1)),
        eye_shade=float(rng.uniform(0.05, 0.28)),
        lash=float(rng.uniform(0.15, 0.4) if male else rng.uniform(0.5, 0.88)),
        iris=float(np.clip(0.1 + 0.4 * fair * rng.random() + rng.normal(0, 0.02), 0.06, 0.5)),
        hair=hair,
        streaks=float(rng.uniform(0.2, 0.4) * (1 - hair)),
        hairline=float(rng.uniform(7.8, 8.02) + (0.05 if male else 0)),
        recession=float(rng.uniform(0, 0.22) if male else rng.uniform(0, 0.06)),
        peak=float(max(0, rng.normal(0.02, 0.04))),
        sideburn=float(rng.uniform(6.95, 7.3)),
        nape=float(rng.uniform(6.45, 6.8)),
        cover={"shaved": rng.uniform(0.2, 0.45), "buzz": rng.uniform(0.6, 0.85)}.get(style, 0.97),
        volume={
            "shaved": 0.0,
            "buzz": 0.015,
            "short": rng.uniform(0.05, 0.12),
            "full": rng.uniform(0.14, 0.36),
            "back": rng.uniform(0.03, 0.07),
            "bob": rng.uniform(0.1, 0.18),
            "long": rng.uniform(0.08, 0.16),
            "fringe": rng.uniform(0.1, 0.18),
        }[style],
        side_volume={
            "shaved": 0.0,
            "buzz": 0.012,
            "short": rng.uniform(0.02, 0.06),
            "full": rng.uniform(0.08, 0.3),
            "back": rng.uniform(0.02, 0.05),
            "bob": 0.08,
            "long": 0.07,
            "fringe": rng.uniform(0.04, 0.1),
        }[style],
        length=float(rng.uniform(6.15, 6.6) if style == "bob" else rng.uniform(5.2, 5.7)) if hanging else 0.0,
        opening=float(rng.uniform(0.95, 1.2) if rng.random() < 0.6 else rng.uniform(1.75, 2.0)),
        bun=float(rng.uniform(0.22, 0.36)) if style == "back" else 0.0,
        bun_height=float(rng.uniform(7.2, 8.15)),
        fringe=float(rng.uniform(0.15, 0.42))
        if style == "fringe" or (hanging and rng.random() < 0.35)
        else 0.0,
        parting=float(rng.choice([-0.3, 0.0, 0.3]) + rng.normal(0, 0.05)),
        brow=float(rng.uniform(0.55, 0.95)),
        brow_thickness=float(rng.uniform(0.028, 0.052) if male else rng.uniform(0.014, 0.029)),
        brow_height=float(rng.normal(-0.005 if male else 0.012, 0.014)),
        brow_arch=float(rng.uniform(0.0, 0.045) if male else rng.uniform(0.01, 0.08)),
        brow_slope=float(rng.normal(0.0, 0.02)),
        brow_gap=float(rng.uniform(0.09, 0.15)),
        brow_end=float(rng.uniform(0.46, 0.56)),
        stubble=float(
            {"stubble": rng.uniform(0.18, 0.4), "full": rng.uniform(0.7, 0.92)}.get(
                beard_kind, rng.uniform(0, 0.15)
            )
        )
        if bearded
        else (float(rng.uniform(0.1, 0.28)) if male else 0.0),
        moustache=float(
            {"stubble": rng.uniform(0.15, 0.4), "full": rng.uniform(0.6, 0.9)}.get(
                beard_kind, rng.uniform(0.65, 0.92)
            )
        )
        if bearded
        else (float(rng.uniform(0.1, 0.28)) if male else 0.0),
        chin_beard=float(
            {"goatee": rng.uniform(0.65, 0.92), "full": 0.9, "stubble": 0.3}.get(beard_kind, 0.0)
        )
        if bearded
        else 0.0,
        beard_line=float(rng.uniform(6.5, 6.68)),
        moles=tuple(
            (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(6.3, 7.75)), float(rng.uniform(0.014, 0.026)))
            for _ in range(int(rng.choice([0, 0, 0, 1, 1, 2])))
        ),
        seed=seed,
    )
