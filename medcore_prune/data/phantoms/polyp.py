"""Phantom endoscopy: a lobed growth on a folded, wet, vesselled wall. Phantom images, not clinical data."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import camera
from .canvas import Canvas, Field
from .scene import Scene
from .shapes import Outline, largest_part, lobed, smooth, without_holes


@dataclass(frozen=True)
class Look:
    """One endoscope and its patients."""

    wall: tuple[float, float, float]  # colour of the wall, red, green, blue in [0, 1]
    wall_spread: float  # change of that colour from image to image
    contrast: float  # strength of the growth's own colour
    texture: float  # strength of the growth's surface pattern
    vessels: float  # strength of the wall's vessels
    folds: float  # height of the wall's folds in coordinates
    lumen: float  # probability that the dark way onward is in view
    gloss: float  # wetness
    side_light: float  # largest sideways light
    vignette: float  # fall of light towards the corners
    frame: tuple[float, float] | None  # half side and corner cut of the window; None where the image fills the frame
    inset: float  # probability of a black inset box and overlay text
    radius: tuple[float, float]  # smallest and largest radius of the growth
    soft_px: float  # width of the contour where it is soft, in pixels of 128
    blur_px: float  # blur of the optics, in pixels of 128
    noise: float  # deviation of sensor noise
    interlace: float  # probability that odd lines were taken a moment later


_LOOKS: dict[str, tuple[Any, Any, Any]] = {
    "wall": ((0.86, 0.47, 0.36), (0.66, 0.45, 0.33), (0.78, 0.55, 0.52)),
    "wall_spread": (0.10, 0.09, 0.06),
    "contrast": (0.15, 0.13, 0.10),
    "texture": (0.10, 0.08, 0.12),
    "vessels": (0.8, 0.5, 0.3),
    "folds": (0.10, 0.16, 0.13),
    "lumen": (0.5, 0.8, 0.4),
    "gloss": (0.85, 0.7, 0.5),
    "side_light": (0.35, 0.25, 0.55),
    "vignette": (0.25, 0.7, 0.40),
    "frame": ((0.97, 1.45), (0.84, 1.32), None),
    "inset": (0.5, 0.0, 0.0),
    "radius": ((0.36, 0.66), (0.32, 0.55), (0.30, 0.54)),
    "soft_px": (2.5, 3.0, 3.5),
    "blur_px": (0.5, 0.75, 0.6),
    "noise": (0.012, 0.014, 0.02),
    "interlace": (0.0, 0.0, 0.4),
}
LOOK_A, LOOK_B, LOOK_C = (Look(**{name: values[n] for name, values in _LOOKS.items()}) for n in range(3))

OUTLINE = Outline(lobes=(2, 4), turn=1.4, slimness=0.7, wobble=0.19, fringe=0.06)


def render(canvas: Canvas, look: Look) -> Scene:
    """Return one phantom endoscopy image with one growth."""
    radius = canvas.uniform(*look.radius)
    reach = 0.78 - 0.6 * radius
    centre = (canvas.uniform(-reach, reach), canvas.uniform(-reach, reach))
    growth = lobed(canvas, centre, radius, OUTLINE)
    lip = _lip(canvas, centre, radius)
    if lip is not None:
        growth = np.minimum(growth, -lip)
    frame = _frame(canvas, look)
    mask = without_holes(largest_part((growth > 0) & (frame > 0.5)))
    height, shadow = _surface(canvas, look, growth, lip, radius)
    diffuse, glints = camera.shade(
        canvas,
        height,
        (canvas.uniform(-1, 1) * look.side_light, canvas.uniform(-1, 1) * look.side_light),
        look.gloss,
    )
    light = _light(canvas, look, growth, centre) * (0.35 + 0.65 * diffuse) * shadow
    image = _albedo(canvas, look, growth, lip) * light
    image = image + glints * np.array([0.95, 0.93, 0.9])[:, None, None] * (0.15 + 0.85 * light)
    image = camera.bubbles(canvas, image, int(canvas.rng.integers(0, 5)))
    return Scene(_finish(canvas, look, image, frame), mask[None])


def _soft_edge(canvas: Canvas, growth: Field, soft_px: float) -> Field:
    """Return the growth's coverage in [0, 1]; the contour is sharp in places and soft in others."""
    width = (0.7 + soft_px * smooth(canvas.noise(4) * 1.2 - 0.5)) * (2.0 / 128)
    return smooth(growth / width)


def _lip(canvas: Canvas, centre: tuple[float, float], radius: float) -> Field | None:
    """Return a round fold in front of the growth (positive where it covers), or None."""
    if not canvas.chance(0.35):
        return None
    angle, far = canvas.uniform(-np.pi, np.pi), canvas.uniform(0.5, 1.5)
    gap = radius * canvas.uniform(0.15, 0.6)
    x = canvas.x - centre[0] - (gap + far) * np.cos(angle)
    y = canvas.y - centre[1] - (gap + far) * np.sin(angle)
    return np.asarray(far - np.sqrt(x * x + y * y) + canvas.noise(4) * (0.14 * radius))


def _surface(canvas: Canvas, look: Look, growth: Field, lip: Field | None, radius: float) -> tuple[Field, Field]:
    """Return the height of everything, and the darkening beside the growth and under the lip."""
    height = canvas.fractal(2, 3) * 0.07 + _folds(canvas, look)
    edge = _soft_edge(canvas, growth, look.soft_px)
    bulge = np.clip(growth / (0.5 * radius), 0.0, 1.0)
    rounded = bulge * (2.0 - bulge)
    steep = canvas.uniform(0.0, 1.0)
    dome = (rounded + steep * (np.sqrt(rounded + 1e-4) - rounded)) * radius * canvas.uniform(0.3, 0.6)
    pits = canvas.noise(int(canvas.rng.integers(16, 40))) * (0.09 * look.texture)
    height = height + edge * (dome + pits)
    sides = smooth(canvas.noise(3) * 0.9)
    crease = np.exp(-np.abs(growth) / 0.03) * (growth < 0) * sides
    shadow = 1.0 - canvas.uniform(0.15, 0.4) * crease
    if lip is not None:
        near = smooth(0.6 + 0.9 * canvas.noise(3))
        covered = smooth(lip / 0.05) * near
        height = height + covered * np.exp(np.minimum(-lip, 0.0) / 0.25) * canvas.uniform(0.05, 0.12)
        shadow = shadow * (1.0 - canvas.uniform(0.2, 0.45) * np.exp(np.minimum(lip, 0.0) / 0.08) * (lip < 0) * near)
    return height, shadow


def _folds(canvas: Canvas, look: Look) -> Field:
    """Return ring-shaped folds around a far centre, interrupted at random."""
    angle, far = canvas.uniform(-np.pi, np.pi), canvas.uniform(0.5, 1.6)
    dx, dy = canvas.x - far * np.cos(angle), canvas.y - far * np.sin(angle)
    distance = np.sqrt(dx * dx + dy * dy) + 0.12 * canvas.noise(3)
    wave = 0.5 + 0.5 * np.sin(distance * canvas.uniform(6.0, 12.0) + canvas.uniform(0.0, 6.28))
    return np.asarray(look.folds * wave**3 * smooth(canvas.noise(2) * 1.2 + 0.2))


def _light(canvas: Canvas, look: Look, growth: Field, centre: tuple[float, float]) -> Field:
    """Return how much lamp light arrives: little in the corners and in the lumen, which lies behind the growth."""
    light = camera.vignette(canvas, look.vignette) * canvas.uniform(0.85, 1.2)
    if canvas.chance(look.lumen):
        away = np.arctan2(-centre[1], -centre[0])
        angle, far = away + canvas.uniform(-1.6, 1.6), canvas.uniform(0.5, 1.0)
        dx, dy = canvas.x - far * np.cos(angle), canvas.y - far * np.sin(angle)
        distance = np.sqrt(dx * dx + dy * dy) + 0.08 * canvas.noise(4)
        dark = smooth((canvas.uniform(0.25, 0.45) - distance) / 0.22) * smooth(-growth / 0.03)
        light = light * (1.0 - 0.8 * dark)
    return np.asarray(light)


def _albedo(canvas: Canvas, look: Look, growth: Field, lip: Field | None) -> Field:
    """Return the colour of the wall and of the growth, (3, size, size)."""
    wall = np.array(look.wall)[:, None, None] + canvas.tint(look.wall_spread)
    patchy = canvas.fractal(3, 4, 0.6) * 0.045
    flush = np.array([0.3, 1.0, 0.9])[:, None, None]
    vein = canvas.noise(7) + 0.4 * canvas.noise(14)
    veins = np.exp(-((vein / 0.1) ** 2)) * smooth(canvas.noise(3)) * (0.13 * look.vessels)
    wall = wall + patchy * flush - veins * flush * smooth(-growth / 0.03)
    redness = canvas.uniform(-1.0, 1.0)
    # from pale (all channels up, blue least) to flushed (red kept, the others down)
    own = np.array([0.45 - 0.55 * redness, -redness, -0.75 * redness])[:, None, None]
    own = (own / np.abs(own).max() * look.contrast + canvas.tint(0.025)) * (0.8 + 0.35 * canvas.noise(3))
    pattern = canvas.fractal(int(canvas.rng.integers(12, 30)), 2, 0.7) * look.texture * 0.6
    edge = _soft_edge(canvas, growth, look.soft_px)
    return wall + edge * (own + pattern * flush)


def _frame(canvas: Canvas, look: Look) -> Field:
    if look.frame is None:
        return np.ones((canvas.size, canvas.size))
    reach, cut = look.frame
    window = camera.octagon(canvas, reach + canvas.uniform(-0.02, 0.02), cut + canvas.uniform(-0.06, 0.06))
    if canvas.chance(look.inset):
        window = window * camera.box_outside(canvas, canvas.uniform(-0.5, -0.3), canvas.uniform(0.3, 0.5))
    return window


def _finish(canvas: Canvas, look: Look, image: Field, frame: Field) -> np.ndarray:
    if canvas.chance(look.interlace):
        image[:, 1::2] = np.roll(image[:, 1::2], 1, axis=2)
    image = np.clip(image, 0.0, 1.0) * frame + 0.02
    if look.inset and canvas.chance(0.5):
        image = np.maximum(image, 0.8 * camera.writing(canvas, -0.98, canvas.uniform(-0.4, -0.1), 5, 12))
    return camera.capture(canvas, image, blur_px=look.blur_px, noise=look.noise)
