"""Triangle meshes of heads in plain NumPy: morphing, smoothing, normals, eyeballs and hanging hair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyvista as pv

from sweep.arrays import Array

Floats = Array
Ints = Array


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh whose vertices remember where they lie on the generator's average head."""

    vertices: Floats
    """(V, 3) positions; the face looks along +z, y is up."""
    triangles: Ints
    """(T, 3) vertex indices."""
    canonical: Floats
    """(V, 3) positions on the average head: what painting is defined on, so that it follows every morph."""

    def normals(self) -> Floats:
        """Unit vertex normals, weighted by triangle area."""
        corners = self.vertices[self.triangles]
        areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        index = self.triangles.ravel()
        count = len(self.vertices)
        total = np.stack(
            [np.bincount(index, np.repeat(areas[:, axis], 3), count) for axis in range(3)], axis=1
        )
        unit: Floats = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
        return unit

    def moved(self, offsets: Floats) -> Mesh:
        """The same mesh with displaced vertices."""
        return Mesh(self.vertices + offsets, self.triangles, self.canonical)


def join(*meshes: Mesh) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]),
        np.concatenate([mesh.canonical for mesh in meshes]),
    )


def polydata(vertices: Floats, triangles: Ints) -> pv.PolyData:
    """The mesh as the renderer takes it."""
    return pv.PolyData(vertices, np.insert(triangles, 0, 3, axis=1).ravel())


def smooth(mesh: Mesh, levels: int) -> Mesh:
    """Loop subdivision: a round silhouette, and vertices dense enough to paint on."""
    if levels == 0:
        return mesh
    fine = polydata(mesh.vertices, mesh.triangles).subdivide(levels, "loop")
    canonical = polydata(mesh.canonical, mesh.triangles).subdivide(levels, "loop")
    return Mesh(
        np.asarray(fine.points, np.float64),
        np.asarray(fine.faces, np.int64).reshape(-1, 4)[:, 1:],
        np.asarray(canonical.points, np.float64),
    )


def compact(mesh: Mesh, keep: Array) -> Mesh:
    """The chosen triangles with only the vertices they use."""
    used, triangles = np.unique(mesh.triangles[keep], return_inverse=True)
    return Mesh(mesh.vertices[used], triangles.reshape(-1, 3).astype(np.int64), mesh.canonical[used])


def boundary_loops(triangles: Ints) -> list[Ints]:
    """Closed chains of the edges that belong to one triangle only, in order."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    _, index, counts = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
    following = {int(a): int(b) for a, b in edges[index[counts == 1]]}
    loops = []
    while following:
        start, step = following.popitem()
        chain = [start]
        while step != start and step in following:
            chain.append(step)
            step = following.pop(step)
        loops.append(np.array(chain))
    return loops


def close_hole(mesh: Mesh, loop: Ints, depth: float) -> Mesh:
    """Close a hole by a shallow funnel whose tip lies `depth` behind it, as the gap between two lips has."""
    tip = len(mesh.vertices)
    back = np.array([0.0, 0.0, depth])
    fan = np.stack([np.roll(loop, -1), loop, np.full(len(loop), tip)], axis=1)
    return Mesh(
        np.vstack([mesh.vertices, mesh.vertices[loop].mean(0) - back]),
        np.vstack([mesh.triangles, fan]),
        np.vstack([mesh.canonical, mesh.canonical[loop].mean(0) - back]),
    )


def sphere(centre: Floats, radius: float, rings: int = 48) -> Mesh:
    """A ball with its pole towards +z, where an iris wants the finest triangles; canonical on the unit ball."""
    polar = np.linspace(0, np.pi, rings) ** 1.35 / np.pi**0.35
    around = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    unit = np.stack(
        [
            np.outer(np.sin(polar), np.cos(around)),
            np.outer(np.sin(polar), np.sin(around)),
            np.outer(np.cos(polar), np.ones_like(around)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    return Mesh(centre + radius * unit, grid_triangles(rings, 2 * rings, wrap=True), unit)


def grid_triangles(rows: int, columns: int, *, wrap: bool) -> Ints:
    """Triangles of a grid of vertices stored row by row, closed around the columns if `wrap`."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns if wrap else columns - 1), indexing="ij")
    here, right = row * columns + column, row * columns + (column + 1) % columns
    below, diagonal = here + columns, right + columns
    upper = np.stack([here, below, right], axis=-1).reshape(-1, 3)
    lower = np.stack([right, below, diagonal], axis=-1).reshape(-1, 3)
    return np.concatenate([upper, lower]).astype(np.int64)


def hanging_hair(
    skull: Floats, axis_z: float, top: float, bottom: float, opening: float, thickness: float, taper: float
) -> Mesh:
    """Hair that falls from the widest part of the skull around the back of the head.

    `skull` are the vertices that carry the hair; `opening` is the angle in radians from straight ahead where the
    hair begins on either side. At each direction the hair goes out with the skull and from there straight down.
    """
    columns, rows = 121, 60
    azimuth = np.linspace(opening, 2 * np.pi - opening, columns)
    heights = np.linspace(top, bottom, rows)
    angle = np.arctan2(skull[:, 0], skull[:, 2] - axis_z) % (2 * np.pi)
    radius = np.hypot(skull[:, 0], skull[:, 2] - axis_z)
    radii = np.zeros((rows, columns))
    for column, direction in enumerate(azimuth):
        near = np.abs((angle - direction + np.pi) % (2 * np.pi) - np.pi) < 0.12
        y, r = skull[near, 1], radius[near]
        for row, height in enumerate(heights):
            above = y >= height
            radii[row, column] = r[above].max() if above.any() else 0.05
    for _ in range(12):
        padded = np.pad(radii, 1, mode="edge")
        radii = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
    # Lie flat at the front edges and at the crown, swell in between, and draw in towards the tips.
    side = np.clip((azimuth - opening) / 0.5, 0, 1) * np.clip((2 * np.pi - opening - azimuth) / 0.5, 0, 1)
    along = np.linspace(0, 1, rows)[:, None]
    emerging = np.clip(2.5 * along, 0, 1) ** 2
    swell = thickness * (0.35 + 0.65 * side) * emerging - 0.03 * (1 - emerging)
    radii = radii + swell - taper * np.clip(along - 0.55, 0, 1) ** 2
    # No two locks end at the same height.
    ragged = 0.03 * np.sin(9.1 * azimuth) + 0.02 * np.sin(23.7 * azimuth + 1) + 0.012 * np.sin(51.3 * azimuth)
    points = np.stack(
        [
            radii * np.sin(azimuth),
            heights[:, None] + along**3 * ragged,
            axis_z + radii * np.cos(azimuth),
        ],
        axis=-1,
    ).reshape(-1, 3)
    canonical = np.stack(
        [np.broadcast_to(azimuth, radii.shape), np.broadcast_to(along, radii.shape), np.zeros_like(radii)],
        axis=-1,
    ).reshape(-1, 3)
    return Mesh(points, grid_triangles(rows, columns, wrap=False), canonical)
