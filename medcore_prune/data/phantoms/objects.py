"""Phantom general pictures: overlapping, textured, shaded things on a textured ground, for the reference model."""

import numpy as np

from . import camera
from .canvas import Canvas, Field
from .scene import Scene
from .shapes import Outline, largest_part, lobed, slopes, smooth
from .surfaces import pattern, texture

MOST_OBJECTS = 6
FEWEST_OBJECTS = 3
SMALLEST_FRACTION = 0.008


def render(canvas: Canvas) -> Scene:
    """Return one phantom picture with three to six objects, painted from back to front."""
    image = _ground(canvas)
    light = (canvas.uniform(-0.8, 0.8), canvas.uniform(-0.8, 0.8))
    owner = np.full((canvas.size, canvas.size), -1)
    count = int(canvas.rng.integers(5, 8))
    for index in range(count):
        depth = index / count
        owner[_paint(canvas, image, light, radius=canvas.uniform(0.22, 0.65) * (1.1 - 0.5 * depth))] = index
    masks = _visible(owner, count)
    if len(masks) < FEWEST_OBJECTS:
        return render(canvas)
    blur, noise = canvas.uniform(0.0, 0.7), canvas.uniform(0.004, 0.025)
    image = np.clip(image * camera.vignette(canvas, 0.08), 0.0, 1.0)
    return Scene(camera.capture(canvas, image, blur_px=blur, noise=noise), masks)


def _ground(canvas: Canvas) -> Field:
    """Return sky over land, or one textured surface."""
    image = texture(canvas)
    if canvas.chance(0.5):
        horizon = smooth(
            (canvas.y - canvas.uniform(-0.6, 0.3) + 0.05 * canvas.fractal(3, 3)) / canvas.uniform(0.02, 0.3)
        )
        image = image + (texture(canvas) - image) * horizon
    return image * (1.0 + 0.15 * canvas.noise(2))


def _paint(canvas: Canvas, image: Field, light: tuple[float, float], radius: float) -> np.ndarray:
    """Draw one more object in front onto the image itself, and return the pixels that it covers."""
    centre = (canvas.uniform(-0.85, 0.85), canvas.uniform(-0.85, 0.85))
    shape = SHAPES[int(canvas.rng.integers(len(SHAPES)))](canvas, centre, radius)
    first, change, mix = pattern(canvas)
    # all that follows happens near the shape alone
    rows, columns = _where(shape > -0.2)
    near = shape[rows, columns]
    patch = image[:, rows, columns]
    if canvas.chance(0.6):
        patch *= 1.0 - canvas.uniform(0.15, 0.45) * smooth(_moved(canvas, near, light) / 0.06)
    colour = first + change * mix[rows, columns]
    if canvas.chance(0.75):
        bulge = np.clip(near / (0.4 * radius), 0.0, 1.0)
        hx, hy = slopes(np.sqrt(bulge * (2.0 - bulge) + 1e-4) * radius * canvas.uniform(0.2, 0.8), canvas.pixel)
        facing = (1.0 - light[0] * hx - light[1] * hy) / np.sqrt(1.0 + hx * hx + hy * hy)
        colour = colour * np.clip(0.35 + 0.65 * facing, 0.15, 1.4)
    patch += (colour - patch) * smooth(near / (canvas.pixel * canvas.uniform(0.6, 1.6)))
    covered = np.zeros(shape.shape, bool)
    covered[rows, columns] = near > 0
    return covered


def _where(near: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns that hold all true pixels; a corner if there are none."""
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if not len(rows):
        return slice(0, 2), slice(0, 2)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _moved(canvas: Canvas, shape: Field, light: tuple[float, float]) -> Field:
    """Return a shape moved away from the light, by at most a twentieth of the side."""
    most = canvas.size // 20
    padded = np.pad(shape, most, mode="edge")
    down, right = (most - round(-part * most) for part in (light[1], light[0]))
    return padded[down : down + shape.shape[0], right : right + shape.shape[1]]


def _visible(owner: np.ndarray, count: int) -> np.ndarray:
    """Return the masks of the objects that still show, at most six, front ones last."""
    least = SMALLEST_FRACTION * owner.size
    masks = [owner == index for index in range(count)]
    masks = [largest_part(mask) for mask in masks if mask.sum() >= least]
    masks = [mask for mask in masks if mask.sum() >= least][-MOST_OBJECTS:]
    return np.stack(masks) if masks else np.zeros((0, *owner.shape), bool)


def _blob(canvas: Canvas, centre: tuple[float, float], radius: float) -> Field:
    outline = Outline((1, 5), 1.6, 0.35, canvas.uniform(0.05, 0.3), canvas.uniform(0.0, 0.1))
    return lobed(canvas, centre, radius, outline)


def _polygon(canvas: Canvas, centre: tuple[float, float], radius: float) -> Field:
    """Return a convex polygon: the least distance to several turned edges."""
    corners = int(canvas.rng.integers(3, 8))
    angles = (np.arange(corners) + canvas.rng.uniform(-0.3, 0.3, corners)) * (2 * np.pi / corners)
    angles += canvas.uniform(0.0, 2 * np.pi)
    x, y = canvas.x - centre[0], canvas.y - centre[1]
    wobble = canvas.noise(4) * (0.05 * radius)
    edges = [radius * canvas.uniform(0.35, 0.8) - x * np.cos(a) - y * np.sin(a) for a in angles]
    return np.asarray(np.minimum.reduce([np.broadcast_to(e, wobble.shape) for e in edges]) + wobble)


def _star(canvas: Canvas, centre: tuple[float, float], radius: float) -> Field:
    """Return a shape with arms: the radius swings with the angle."""
    x, y = canvas.x - centre[0] + canvas.noise(4) * 0.1 * radius, canvas.y - centre[1]
    angle, arms = np.arctan2(y, x), int(canvas.rng.integers(2, 8))
    swing = canvas.uniform(0.15, 0.45)
    uneven = canvas.uniform(0.1, 0.5) * np.sin(angle + canvas.uniform(0.0, 6.28))
    reach = radius * (0.6 + swing * np.sin(arms * angle + canvas.uniform(0.0, 6.28) + uneven) + 0.2 * uneven)
    return np.asarray((reach - np.sqrt(x * x + y * y)) * 0.7)


def _limb(canvas: Canvas, centre: tuple[float, float], radius: float) -> Field:
    """Return a long, bent band, like a branch, a limb or a pipe."""
    angle = canvas.uniform(-np.pi, np.pi)
    c, s = np.cos(angle), np.sin(angle)
    u, v = canvas.x - centre[0], canvas.y - centre[1]
    along, across = (u * c + v * s) / radius, (v * c - u * s) / radius
    bend = canvas.uniform(-0.7, 0.7) * along**2 + canvas.uniform(-0.2, 0.2) * np.sin(along * 5.0)
    thickness = canvas.uniform(0.12, 0.35) * (1.0 + canvas.uniform(-0.5, 0.5) * along) + 0.03 * canvas.noise(6)
    return np.asarray(np.minimum(thickness - np.abs(across - bend), 1.2 - np.abs(along)) * radius)


SHAPES = (_blob, _blob, _blob, _polygon, _star, _limb)
