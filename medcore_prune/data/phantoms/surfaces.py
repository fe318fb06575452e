"""Coloured patterns for general pictures: plain, cloudy, striped, checked, spotted, fibrous. (3, size, size)."""

import numpy as np

from .canvas import Canvas, Field
from .shapes import smooth


def texture(canvas: Canvas) -> Field:
    """Return a random pattern in two related colours, (3, size, size)."""
    first, change, mix = pattern(canvas)
    return np.asarray(first + change * mix)


def pattern(canvas: Canvas) -> tuple[Field, Field, Field]:
    """Return a colour, the way to a second one, each (3, 1, 1), and how far along it each pixel lies, (size, size)."""
    first = canvas.rng.uniform(0.08, 0.92, (3, 1, 1))
    # most things in the world are nearly grey, browns and dull greens more than blues
    first = first.mean() + (first - first.mean()) * canvas.uniform(0.1, 0.9)
    first += np.array([0.04, 0.01, -0.05])[:, None, None]
    second = first + canvas.uniform(-0.35, 0.35) + canvas.tint(0.12)
    mix = PATTERNS[int(canvas.rng.integers(len(PATTERNS)))](canvas)
    return first, second - first, mix


def _turned(canvas: Canvas) -> tuple[Field, Field]:
    angle = canvas.uniform(-np.pi, np.pi)
    c, s = np.cos(angle), np.sin(angle)
    warp = canvas.noise(4) * canvas.uniform(0.0, 0.12)
    return canvas.x * c + canvas.y * s + warp, canvas.y * c - canvas.x * s + warp


def _cloudy(canvas: Canvas) -> Field:
    return np.asarray(0.5 + 0.3 * canvas.fractal(int(canvas.rng.integers(2, 10)), 4, canvas.uniform(0.4, 0.85)))


def _graded(canvas: Canvas) -> Field:
    along, _ = _turned(canvas)
    return np.asarray(0.5 + 0.4 * along + 0.06 * canvas.noise(30))


def _striped(canvas: Canvas) -> Field:
    along, _ = _turned(canvas)
    wave = np.sin(along * canvas.uniform(10.0, 50.0))
    return smooth(wave * canvas.uniform(0.8, 4.0)) + 0.06 * canvas.noise(20)


def _checked(canvas: Canvas) -> Field:
    along, across = _turned(canvas)
    pitch = canvas.uniform(10.0, 35.0)
    return smooth(np.sin(along * pitch) * np.sin(across * pitch) * 4.0) + 0.06 * canvas.noise(20)


def _spotted(canvas: Canvas) -> Field:
    return smooth((canvas.noise(int(canvas.rng.integers(8, 34))) - canvas.uniform(0.0, 0.8)) * 4.0)


def _fibrous(canvas: Canvas) -> Field:
    fine, coarse = int(canvas.rng.integers(20, 50)), int(canvas.rng.integers(3, 9))
    fibre = canvas.noise(fine, coarse) if canvas.chance(0.5) else canvas.noise(coarse, fine)
    return np.asarray(0.5 + 0.3 * fibre)


PATTERNS = (_cloudy, _cloudy, _graded, _striped, _checked, _spotted, _fibrous)
