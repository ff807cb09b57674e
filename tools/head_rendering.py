"""Soft light computed at the vertices, and a rasteriser that turns a head into an anti-aliased grey image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyvista as pv

from sweep.arrays import Array
from tools.head_mesh import Floats, Mesh, polydata

SUPERSAMPLING = 4


@dataclass(frozen=True)
class Light:
    """A distant light."""

    direction: tuple[float, float, float]
    """Where it stands in the camera's frame: right, up, towards the viewer."""
    strength: float
    softness: float
    """How far the light of a large source reaches around the edge of the shadow."""


LIGHTS = (
    Light((-0.35, 0.55, 0.75), 0.74, 0.25),
    Light((0.75, 0.15, 0.45), 0.16, 0.5),
    Light((-0.9, 0.1, 0.1), 0.08, 0.5),
)
"""A large key light above the camera, a fill light and a little rim light; they stay while the head turns."""

SKY, GROUND = 0.32, 0.12
"""Light from all around, above and below."""


def turn(vectors: Floats, yaw: float, pitch: float = 0.0) -> Floats:
    """Turn by degrees: `yaw` towards the viewer's right about the vertical axis, then `pitch` downwards."""
    a, b = np.deg2rad(yaw), np.deg2rad(pitch)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    turned: Floats = vectors @ (about_x @ about_y).T
    return turned


def shade(
    albedo: Floats, normals: Floats, openness: Floats, gloss: Floats, lights: tuple[Light, ...]
) -> Floats:
    """Reflected light at every vertex, given normals in the camera's frame."""
    view = np.array([0.0, 0.0, 1.0])
    irradiance = openness * (GROUND + (SKY - GROUND) * (0.5 + 0.5 * normals[:, 1]))
    shine = np.zeros(len(albedo))
    for light in lights:
        unit = np.array(light.direction) / np.linalg.norm(light.direction)
        lit = np.clip((normals @ unit + light.softness) / (1 + light.softness), 0, None)
        irradiance = irradiance + light.strength * lit * (0.35 + 0.65 * openness)
        half = (unit + view) / np.linalg.norm(unit + view)
        facing = np.clip(normals @ half, 0, 1)
        # Gloss above 1 is that of a wet eye: a small sharp highlight; skin and hair have a broad faint one.
        sharp, broad = np.maximum(gloss - 1, 0), np.minimum(gloss, 1)
        shine += light.strength * (sharp * facing**90 + 0.07 * broad * facing**14)
    return albedo * irradiance + shine * openness


class Rasteriser:
    """An off-screen camera looking along -z at a square frame."""

    def __init__(self, size: int, supersampling: int = SUPERSAMPLING) -> None:
        """Open the window once: that takes longer than many images."""
        self.size, self.supersampling = size, supersampling
        pixels = size * supersampling
        self.plotter = pv.Plotter(off_screen=True, window_size=[pixels, pixels], lighting="none")
        self.plotter.add_mesh(pv.Sphere())
        self.plotter.show(auto_close=False)
        # What shades a vertex softly need not be seen sharply.
        self.shadow_plotter = pv.Plotter(off_screen=True, window_size=[192, 192], lighting="none")
        self.shadow_plotter.add_mesh(pv.Sphere())
        self.shadow_plotter.show(auto_close=False)

    def _show(self, mesh: Mesh, values: Floats, background: float) -> None:
        surface = polydata(mesh.vertices, mesh.triangles)
        level = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
        surface.point_data["level"] = np.repeat(level[:, None], 3, axis=1)
        self.plotter.clear_actors()
        self.plotter.set_background([background] * 3)
        self.plotter.add_mesh(
            surface,
            scalars="level",
            rgb=True,
            lighting=False,
            show_scalar_bar=False,
            reset_camera=False,
            render=False,
        )

    def image(
        self,
        mesh: Mesh,
        values: Floats,
        centre: Floats,
        height: float,
        background: float,
        distance: float = 5.0,
    ) -> Array:
        """Draw values of 0-1 with perspective; the frame is `height` high at the centre, `distance` heights away."""
        self._show(mesh, values, background)
        camera = self.plotter.camera
        camera.parallel_projection = False
        camera.focal_point = tuple(centre)
        camera.position = tuple(centre + np.array([0, 0, distance * height]))
        camera.up = (0, 1, 0)
        camera.view_angle = float(np.rad2deg(2 * np.arctan(0.5 / distance)))
        camera.clipping_range = (0.2 * distance * height, 2 * distance * height)
        self.plotter.render()
        picture = np.asarray(self.plotter.screenshot(None, return_img=True), np.float64)[..., 0]
        cells = picture.reshape(self.size, self.supersampling, self.size, self.supersampling)
        image: Array = np.rint(cells.mean((1, 3))).astype(np.uint8)
        return image

    def openness(self, mesh: Mesh, directions: int) -> Floats:
        """Share of the sky that each vertex sees (ambient occlusion), by looking at the mesh from all sides."""
        centre = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
        radius = float(np.linalg.norm(mesh.vertices - centre, axis=1).max())
        normals = mesh.normals()
        # Golden-angle spiral: even cover of the sphere without random numbers.
        index = np.arange(directions) + 0.5
        polar, around = np.arccos(1 - 2 * index / directions), np.pi * (1 + 5**0.5) * index
        seen, total = np.zeros(len(normals)), np.full(len(normals), 1e-9)
        self.shadow_plotter.clear_actors()
        self.shadow_plotter.add_mesh(
            polydata(mesh.vertices, mesh.triangles), lighting=False, reset_camera=False, render=False
        )
        camera, window = self.shadow_plotter.camera, self.shadow_plotter.render_window
        side = self.shadow_plotter.window_size[0]
        buffer = pv.convert_array(np.empty(side * side, np.float32))
        camera.parallel_projection = True
        camera.parallel_scale = radius
        for theta, phi in zip(polar, around, strict=True):
            view = np.array([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)])
            right = np.cross([0.0, 1.0, 0.0], view)
            right /= np.linalg.norm(right)
            up = np.cross(view, right)
            camera.focal_point, camera.position = tuple(centre), tuple(centre + 3 * radius * view)
            camera.up = tuple(up)
            camera.clipping_range = (radius, 5 * radius)
            window.Render()
            # The window's own depth buffer: pyvista's getter draws everything once more.
            window.GetZbufferData(0, 0, side - 1, side - 1, buffer)
            depth = radius + 4 * radius * pv.convert_array(buffer).reshape(side, side)[::-1]
            relative = mesh.vertices - centre
            column = ((relative @ right / radius + 1) / 2 * side).astype(int).clip(0, side - 1)
            row = ((1 - relative @ up / radius) / 2 * side).astype(int).clip(0, side - 1)
            facing = np.clip(normals @ view, 0, 1)
            visible = 3 * radius - relative @ view <= depth[row, column] + 0.02 * radius
            seen += facing * visible
            total += facing
        share: Floats = seen / total
        return share
