"""Phantom breast ultrasound: a dark, ragged lesion in layered speckle. Phantom images, not clinical data."""

import numpy as np
from scipy import ndimage

from . import camera
from .canvas import Canvas, Field
from .scene import Scene
from .shapes import Outline, largest_part, lobed, smooth, without_holes

SMOOTH = Outline(lobes=(2, 3), turn=0.9, slimness=0.6, wobble=0.18, fringe=0.04)
RAGGED = Outline(lobes=(2, 4), turn=1.3, slimness=0.5, wobble=0.25, fringe=0.13)


def render(canvas: Canvas) -> Scene:
    """Return one phantom ultrasound image with one lesion."""
    radius = canvas.uniform(0.28, 0.56)
    centre = (canvas.uniform(-0.5, 0.5), canvas.uniform(-0.45, 0.3))
    ragged = canvas.chance(0.55)
    lesion = lobed(canvas, centre, radius, RAGGED if ragged else SMOOTH)
    mask = without_holes(largest_part(lesion > 0))
    echo = _tissue(canvas)
    width = (0.8 + 4.0 * smooth(canvas.noise(4) - 0.2)) * (2.0 / 128)
    inside = smooth(lesion / width)
    own = canvas.uniform(0.05, 0.14) * (1.0 + 0.35 * canvas.fractal(6, 2))
    echo = echo * (1.0 - inside) + np.clip(own, 0.02, 1.0) * inside
    capsule = np.exp(-((lesion + 0.02) ** 2) / 0.02**2) * smooth(canvas.noise(4) * 1.5)
    echo = echo + capsule * canvas.uniform(0.1, 0.3)
    echo = echo * _behind(canvas, mask, lesion, ragged) * _depth(canvas)
    tone = _compress(_speckle(canvas, echo))
    image = np.repeat(tone[None], 3, axis=0)
    return Scene(camera.capture(canvas, image, blur_px=0.0, noise=0.008), mask[None])


def _tissue(canvas: Canvas) -> Field:
    """Return echo strength of skin, fat with bright septa, gland and muscle, from the top down."""
    depth = canvas.y + 0.08 * canvas.noise(3, 2)
    fat_end, gland_end = canvas.uniform(-0.6, -0.2), canvas.uniform(0.3, 0.75)
    lobules = canvas.noise(6, 9) + 0.5 * canvas.noise(12, 18)
    septa = np.exp(-((lobules / 0.25) ** 2))
    fat = 0.29 + 0.25 * septa + 0.04 * canvas.noise(5)
    streaks = canvas.noise(5, 22) + 0.6 * canvas.noise(10, 30)
    gland = 0.46 + 0.11 * streaks + 0.07 * canvas.noise(4)
    muscle = 0.26 + 0.28 * np.exp(-((canvas.noise(2, 12) / 0.3) ** 2))
    in_gland, in_muscle = smooth((depth - fat_end) / 0.06), smooth((depth - gland_end) / 0.05)
    echo = fat + (gland - fat) * in_gland
    echo = echo + (muscle - echo) * in_muscle
    skin = smooth((-0.88 - depth) / 0.04)
    return np.clip(echo + skin * 0.4, 0.03, 1.0)


def _behind(canvas: Canvas, mask: np.ndarray, lesion: Field, ragged: bool) -> Field:
    """Return the change of echoes below the lesion: a shadow (ragged ones) or enhancement, and shadowed flanks."""
    below = np.maximum.accumulate(mask, axis=0) & ~mask
    column = ndimage.gaussian_filter(below.astype(np.float64), (1.0, 2.5), truncate=2.5)
    factor = canvas.uniform(-0.6, -0.15) if ragged else canvas.uniform(0.0, 0.5)
    return 1.0 + factor * column * smooth((0.02 - lesion) / 0.02)


def _depth(canvas: Canvas) -> Field:
    fall = 1.0 - canvas.uniform(0.1, 0.35) * (canvas.y + 1.0) * 0.5
    sides = 1.0 - canvas.uniform(0.0, 0.35) * np.abs(canvas.x) ** 3
    contact = 1.0 - canvas.uniform(0.1, 0.5) * smooth((canvas.noise(5, 1) - 1.0) * 3.0)
    return np.asarray(fall * sides * contact)


def _speckle(canvas: Canvas, echo: Field) -> Field:
    """Return the envelope of a complex field of scatterers, wider across the beam than along it."""
    size = canvas.size
    wide, tall = round(size / canvas.uniform(1.8, 2.6)), round(size / canvas.uniform(1.2, 1.5))
    real, imaginary = canvas.noise(wide, tall), canvas.noise(wide, tall)
    envelope = np.sqrt(real * real + imaginary * imaginary)
    return np.asarray(echo * (0.15 + 0.7 * envelope))


def _compress(echo: Field) -> Field:
    return np.asarray(np.clip(0.08 + 0.27 * np.log(echo / 0.08 + 0.75), 0.0, 1.0))
