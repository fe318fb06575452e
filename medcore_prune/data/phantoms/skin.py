"""Phantom dermoscopy: a pigmented lesion with a fading border and hairs. Phantom images, not clinical data."""

import numpy as np

from . import camera
from .canvas import Canvas, Field
from .scene import Scene
from .shapes import Outline, largest_part, lobed, smooth, without_holes

OUTLINE = Outline(lobes=(2, 4), turn=1.2, slimness=0.6, wobble=0.22, fringe=0.09)
PIGMENTS = ((-0.28, -0.34, -0.32), (-0.14, -0.34, -0.34), (-0.42, -0.40, -0.33), (-0.10, -0.24, -0.16))


def render(canvas: Canvas) -> Scene:
    """Return one phantom dermoscopy image with one lesion."""
    radius = canvas.uniform(0.32, 0.62)
    centre = (canvas.uniform(-0.25, 0.25), canvas.uniform(-0.25, 0.25))
    lesion = lobed(canvas, centre, radius, OUTLINE)
    mask = without_holes(largest_part(lesion > 0))
    image = _skin(canvas) + _pigment(canvas, lesion)
    image = _hairs(canvas, image)
    image = camera.bubbles(canvas, image, int(canvas.rng.integers(0, 4)))
    image = image * camera.vignette(canvas, canvas.uniform(0.0, 0.2)) * canvas.uniform(0.85, 1.05)
    if canvas.chance(0.35):
        rim = canvas.uniform(1.05, 1.3)
        image = image * (0.05 + 0.95 * smooth((rim - np.hypot(canvas.x, canvas.y)) / 0.04))
    if canvas.chance(0.2):
        image = _ruler(canvas, image)
    blur, noise = canvas.uniform(0.3, 0.8), canvas.uniform(0.006, 0.016)
    return Scene(camera.capture(canvas, np.clip(image, 0.0, 1.0), blur_px=blur, noise=noise), mask[None])


def _skin(canvas: Canvas) -> Field:
    tone = np.array([0.84, 0.67, 0.60])[:, None, None] + canvas.tint(0.07)
    lines = np.abs(canvas.noise(18)) + np.abs(canvas.noise(30))
    relief = canvas.fractal(3, 3) * 0.025 + lines * 0.02 - 0.02
    return np.asarray(tone + relief * np.array([0.7, 1.0, 1.0])[:, None, None])


def _pigment(canvas: Canvas, lesion: Field) -> Field:
    """Return the lesion's colour: a border that fades in places, a network of lines, blotches and pale scars."""
    width = (1.0 + 4.5 * smooth(canvas.noise(4) * 1.2 - 0.2)) * (2.0 / 128)
    inside = smooth(lesion / width)
    colours = np.array(PIGMENTS)[canvas.rng.permutation(len(PIGMENTS))[:2], :, None, None]
    mix = smooth(canvas.fractal(3, 3) * 1.5)
    pigment = colours[0] * mix + colours[1] * (1.0 - mix)
    net = np.abs(canvas.noise(int(canvas.rng.integers(18, 30)))) * canvas.uniform(0.1, 0.5)
    strength = np.clip(canvas.uniform(0.65, 1.15) * (0.85 + 0.2 * canvas.fractal(4, 3)) * (1.1 - net), 0.33, 1.2)
    halo = np.exp(np.minimum(lesion, 0.0) / 0.09) * np.array([-0.01, -0.05, -0.045])[:, None, None]
    return np.asarray(inside * strength * pigment + (1.0 - inside) * halo)


def _hairs(canvas: Canvas, image: Field) -> Field:
    """Draw thin arcs of large circles, darker than the skin."""
    for _ in range(int(canvas.rng.integers(0, 9)) if canvas.chance(0.6) else 0):
        angle, r = canvas.uniform(-np.pi, np.pi), canvas.uniform(0.8, 4.0)
        px, py = canvas.uniform(-0.9, 0.9), canvas.uniform(-0.9, 0.9)
        dx, dy = canvas.x - px - r * np.cos(angle), canvas.y - py - r * np.sin(angle)
        off = np.abs(np.sqrt(dx * dx + dy * dy) - r)
        along = (canvas.x - px) * np.sin(angle) - (canvas.y - py) * np.cos(angle)
        thread = smooth((canvas.uniform(0.006, 0.013) - off) / 0.008) * (np.abs(along) < canvas.uniform(0.3, 1.2))
        image = image * (1.0 - canvas.uniform(0.4, 0.8) * thread)
    return image


def _ruler(canvas: Canvas, image: Field) -> Field:
    """Draw the ticks of a scale along the lower edge."""
    phase = np.mod(canvas.x * canvas.uniform(4.0, 7.0) + 10.0, 1.0)
    ticks = (phase < 0.12) & (canvas.y > canvas.uniform(0.84, 0.92))
    return np.where(ticks, 0.15, image)
