"""What an instrument adds: light, glints, bubbles, frames, blur and sensor noise. Images are (3, size, size)."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .canvas import Canvas, Field
from .shapes import slopes, smooth


def shade(canvas: Canvas, height: Field, light: tuple[float, float], gloss: float) -> tuple[Field, Field]:
    """Return diffuse light in [0, 1.3] and glints in [0, 1] on a surface seen from above, each (size, size).

    The light is its sideways part: (0, 0) is a lamp beside the lens. Gloss is 0 for dry, 1 for wet, which glints more.
    """
    hx, hy = slopes(height, canvas.pixel)
    lx, ly = light
    norm = 1.0 / np.sqrt(1.0 + hx * hx + hy * hy)
    facing = (1.0 - lx * hx - ly * hy) * norm / np.sqrt(1.0 + lx * lx + ly * ly)
    rough_x, rough_y = canvas.noise(34) * 0.24, canvas.noise(34) * 0.24
    tilt = (hx + lx * 0.5 + rough_x) ** 2 + (hy + ly * 0.5 + rough_y) ** 2
    patches = smooth(canvas.noise(11) * 1.5 - 1.6)
    glints = gloss * patches * np.exp(tilt * -36.0)
    return np.clip(facing, 0.0, 1.3), np.clip(glints * 2.2, 0.0, 1.0)


def bubbles(canvas: Canvas, image: Field, count: int) -> Field:
    """Draw small rings of fluid with a bright spot each onto the image itself, and return it."""
    for _ in range(count):
        r = canvas.uniform(0.02, 0.07)
        centre_x, centre_y = canvas.uniform(-0.9, 0.9), canvas.uniform(-0.9, 0.9)
        rows, columns = canvas.window(centre_x, centre_y, r + 0.06)
        x, y = canvas.x[:, columns] - centre_x, canvas.y[rows] - centre_y
        ring = np.exp(-(((np.sqrt(x * x + y * y) - r) / 0.014) ** 2))
        spot = np.exp(-((x + 0.4 * r) ** 2 + (y + 0.4 * r) ** 2) / (0.2 * r) ** 2)
        image[:, rows, columns] += 0.16 * ring + 0.6 * spot
    return image


def vignette(canvas: Canvas, strength: float) -> Field:
    """Return the fall of light towards the corners around a centre that is never quite the image's."""
    x, y = canvas.x - canvas.uniform(-0.25, 0.25), canvas.y - canvas.uniform(-0.25, 0.25)
    return np.asarray(1.0 / (1.0 + strength * (x * x + y * y)) ** 1.5)


def octagon(canvas: Canvas, reach: float, cut: float) -> Field:
    """Return the visible window of an endoscope, 1 inside: a square of half side `reach` with corners cut at `cut`."""
    ax, ay = np.abs(canvas.x), np.abs(canvas.y)
    return smooth((np.minimum(reach - np.maximum(ax, ay), (cut - ax - ay) * 0.7)) / canvas.pixel)


def box_outside(canvas: Canvas, x: float, y: float) -> Field:
    """Return 0 in the lower left corner up to (x, y) and 1 elsewhere: the place of an inset picture."""
    return np.where((canvas.x < x) & (canvas.y > y), 0.0, 1.0)


def writing(canvas: Canvas, x: float, y: float, lines: int, length: int) -> Field:
    """Return 1 where illegible lines of overlay text stand, 0 elsewhere."""
    ink = np.zeros((canvas.size, canvas.size))
    step = max(1, canvas.size // 96)
    left, top = round((x + 1) / canvas.pixel), round((y + 1) / canvas.pixel)
    for line in range(lines):
        marks = canvas.rng.random((2, length)) < 0.55
        marks = np.repeat(np.repeat(marks, step, axis=0), step, axis=1)
        row = top + line * 5 * step
        part = ink[row : row + 2 * step, left : left + length * step]
        part[...] = marks[: part.shape[0], : part.shape[1]]
    return ink


def capture(canvas: Canvas, image: Field, *, blur_px: float, noise: float) -> npt.NDArray[np.uint8]:
    """Return what the sensor stores of an image in [0, 1]: blurred, noisy and rounded to 8 bits, (size, size, 3) uint8.

    The blur's deviation is in pixels of a 128 px image and scaled with the size; that of the noise, of luminance and a
    little of colour, in units of full scale.
    """
    sigma = blur_px * canvas.size / 128
    if sigma > 0:
        image = ndimage.gaussian_filter(image, (0.0, sigma, sigma), truncate=2.5)
    shared = canvas.grain() * noise
    colour = canvas.noise(canvas.size // 2) * (0.4 * noise)
    noisy = image + shared
    noisy[0] += colour
    noisy[2] -= colour
    return np.ascontiguousarray(np.clip(noisy * 255.0 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0))
