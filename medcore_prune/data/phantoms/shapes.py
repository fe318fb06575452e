"""Irregular outlines as fields: positive inside, zero on the contour, about the distance to it in coordinates."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .canvas import Canvas, Field


@dataclass(frozen=True)
class Outline:
    """Ranges of a lobed shape.

    Attributes:
        lobes: Fewest and most lobes along the spine.
        turn: Largest change of direction from one lobe to the next, radians: bends make concavities.
        slimness: Smallest ratio of a lobe's axes.
        wobble: Displacement of the contour by middling noise, relative to the radius.
        fringe: Displacement of the contour by fine noise, relative to the radius.
    """

    lobes: tuple[int, int] = (2, 4)
    turn: float = 1.4
    slimness: float = 0.6
    wobble: float = 0.2
    fringe: float = 0.05


def smooth(edge: Field) -> Field:
    """Return 0 below -1, 1 above 1 and the cubic step between."""
    t = np.clip(0.5 + 0.5 * edge, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def lobed(canvas: Canvas, centre: tuple[float, float], radius: float, outline: Outline) -> Field:
    """Return a blob made of lobes that melt together along a bent spine, with a wobbling contour: (size, size).

    The centre is x, y of the spine's middle, the radius roughly half the extent, in coordinates.
    """
    detail = max(3, round(1.6 / radius))
    dx = canvas.noise(detail) * (outline.wobble * radius)
    dy = canvas.noise(detail) * (outline.wobble * radius)
    x, y = canvas.x + dx, canvas.y + dy
    total = np.zeros_like(x)
    sharpness = 9.0
    for cx, cy, a, b, angle in _lobes(canvas, radius, outline):
        u, v = x - (centre[0] + cx), y - (centre[1] + cy)
        c, s = np.cos(angle), np.sin(angle)
        along, across = (u * c + v * s) * (1.0 / a), (v * c - u * s) * (1.0 / b)
        total += np.exp(-sharpness * np.sqrt(along * along + across * across + 1e-6))
    inside = np.log(total + 1e-30) / sharpness + 1.0
    fine = canvas.noise(min(canvas.size // 3, detail * 4))
    return np.asarray(np.maximum(inside, -3.0) * (0.55 * radius) + fine * (outline.fringe * radius))


def _lobes(canvas: Canvas, radius: float, outline: Outline) -> list[tuple[float, float, float, float, float]]:
    count = int(canvas.rng.integers(outline.lobes[0], outline.lobes[1] + 1))
    heading = canvas.uniform(-np.pi, np.pi)
    x = y = 0.0
    lobes = []
    for _ in range(count):
        a = radius * canvas.uniform(0.4, 0.75) * (1.15 if count == 1 else 1.0)
        lobes.append((x, y, a, a * canvas.uniform(outline.slimness, 1.0), heading + canvas.uniform(-0.5, 0.5)))
        heading += canvas.uniform(-outline.turn, outline.turn)
        step = radius * canvas.uniform(0.45, 0.8)
        x, y = x + step * np.cos(heading), y + step * np.sin(heading)
    mx, my = (float(np.mean([lobe[axis] for lobe in lobes])) for axis in (0, 1))
    return [(x - mx, y - my, a, b, angle) for x, y, a, b, angle in lobes]


def largest_part(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a mask; an empty mask stays empty."""
    labels, count = ndimage.label(mask)
    if count > 1:
        mask = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return mask


def without_holes(mask: np.ndarray) -> np.ndarray:
    """Return a mask with its holes filled: what the outside does not reach is inside."""
    labels, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return np.asarray(labels[1:-1, 1:-1] != labels[0, 0])


def slopes(height: Field, pixel: float) -> tuple[Field, Field]:
    """Return the derivatives of a height in x and y by central differences, one-sided at the borders.

    The height and the side of a pixel are in the units of the coordinates; each result is (size, size).
    """
    padded = np.pad(height, 1, mode="edge")
    scale = 0.5 / pixel
    return (padded[1:-1, 2:] - padded[1:-1, :-2]) * scale, (padded[2:, 1:-1] - padded[:-2, 1:-1]) * scale
