"""A square of coordinates with its own random stream, and smooth noise drawn on it.

Everything is float64: sums taken in another order or an `exp` from another library then differ by 1e-15, which
survives rounding to 8 bits only where a value lies that close to a half.
"""

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float64]


def stream(set_name: str, seed: int, index: int) -> np.random.Generator:
    """Return the random stream of one image, which depends on nothing but these three: PCG64 of their SHA-256."""
    digest = hashlib.sha256(f"{set_name}/{seed}/{index}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


@lru_cache(maxsize=8)
def _axis(size: int) -> Field:
    axis = np.asarray((np.arange(size) + 0.5) * (2.0 / size) - 1.0, dtype=np.float64)
    axis.flags.writeable = False
    return axis


@lru_cache(maxsize=256)
def _spline(size: int, cells: int) -> Field:
    """Return the (size, cells + 3) weights of cubic B-splines, scaled so that white coefficients give variance 1."""
    position = (np.arange(size) + 0.5) * (cells / size)
    left = np.minimum(position.astype(np.int64), cells - 1)
    t = position - left
    pieces = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    weights = np.zeros((size, cells + 3))
    for k, piece in enumerate(pieces):
        weights[np.arange(size), left + k] = piece
    weights /= np.sqrt(np.mean(np.sum(weights**2, axis=1)))
    weights.flags.writeable = False
    return weights


class Canvas:
    """Coordinates in [-1, 1], x (1, size) to the right and y (size, 1) downward, and the image's random stream."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng, self.size = rng, size
        self.x, self.y = _axis(size)[None, :], _axis(size)[:, None]

    @property
    def pixel(self) -> float:
        """Side of a pixel in coordinates."""
        return 2.0 / self.size

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Return the rows and columns within `reach` of a point, both possibly empty."""
        left, right = (round((x + side * reach + 1.0) / self.pixel) for side in (-1, 1))
        top, bottom = (round((y + side * reach + 1.0) / self.pixel) for side in (-1, 1))
        return slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))

    def uniform(self, low: float, high: float) -> float:
        """Return a number drawn evenly between two bounds."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Return True with the probability given."""
        return bool(self.rng.random() < probability)

    def tint(self, spread: float) -> Field:
        """Return a random offset a colour channel, shape (3, 1, 1), even within +-spread."""
        return self.rng.uniform(-spread, spread, (3, 1, 1))

    def noise(self, cells: int, rows: int | None = None) -> Field:
        """Return smooth noise (size, size) of mean 0 and variance about 1; a bump is about two cells wide.

        A cubic B-spline surface over evenly drawn coefficients, so the pattern (not its pixels) is the same at every
        image size. There are as many cells down as across unless `rows` says otherwise.
        """
        rows = cells if rows is None else rows
        coefficients = self.rng.uniform(-1.7320508, 1.7320508, (rows + 3, cells + 3))
        return _spline(self.size, rows) @ coefficients @ _spline(self.size, cells).T

    def fractal(self, cells: int, octaves: int = 3, gain: float = 0.5) -> Field:
        """Return a sum of noises, each twice as fine and `gain` times as strong as the last; variance about 1."""
        weights = [gain**k for k in range(octaves)]
        total = sum(w * self.noise(min(cells * 2**k, self.size)) for k, w in enumerate(weights))
        return np.asarray(total / np.sqrt(sum(w * w for w in weights)))

    def grain(self) -> Field:
        """Return independent noise a pixel, mean 0, variance 1, bounded at sqrt(6): the sum of two even draws."""
        return (self.rng.random((self.size, self.size)) + self.rng.random((self.size, self.size)) - 1.0) * 2.4494897
