"""Quantiles of non-negative values pooled over many images, in memory that does not grow with them.

A few values are kept as they are. Many are counted in a logarithmic histogram, of which a quantile is read with a
relative error below `RELATIVE_ERROR`. Histograms add, so a pool of any choice of images (a bootstrap draw) needs the
images' own histograms and nothing else.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .._support.errors import MetricError

_LOWEST, _HIGHEST, _PER_DECADE = -6, 5, 100

N_BINS = (_HIGHEST - _LOWEST) * _PER_DECADE + 2
"""Bins: one below 1e-6 (zero included), a hundred for each factor of ten, one from 1e5."""
RELATIVE_ERROR = 10 ** (1 / _PER_DECADE) - 1
"""Width of a bin in units of its lower edge (2.4 %): bound on the error of a quantile between 1e-6 and 1e5."""
EXACT_LIMIT = 1 << 20
"""Values that `PooledValues` keeps before it counts."""


@cache
def _edges() -> npt.NDArray[np.float64]:
    return np.logspace(_LOWEST, _HIGHEST, N_BINS - 1)


def histogram(values: Tensor) -> Tensor:
    """Count non-negative values (n,) in the logarithmic bins, (N_BINS,); NaN is refused, infinity in the last one."""
    if values.numel() and not bool((values >= 0).all()):
        raise MetricError("values to pool: expected numbers of at least 0, got a negative one or NaN")
    # edges of the values' own type: a value never falls on the wrong side of an edge that it can tell from itself
    edges = torch.as_tensor(_edges(), dtype=values.dtype, device=values.device)
    return torch.bincount(torch.bucketize(values, edges, right=True), minlength=N_BINS)


def histogram_quantile(counts: npt.NDArray[Any], q: float) -> npt.NDArray[np.float64]:
    """Read the q-quantile of histograms: the smallest v with at least a share q of the values below or at it.

    Within its bin the value is interpolated along the logarithm, so it lies in the same bin as the exact quantile.
    Counts, (..., N_BINS), may be sums with weights; q is in (0, 1]. The result, (...), is NaN without any value, 0 in
    the first bin, infinity in the last.
    """
    _check_share(q)
    below = np.cumsum(counts, axis=-1, dtype=np.float64)
    total = below[..., -1]
    # a hair below the rank, so that sums of weights that differ by rounding do not move on to the next bin
    wanted = (q * total * (1 - 1e-9))[..., None]
    place = np.minimum((below < wanted).sum(axis=-1), N_BINS - 1)
    held = np.take_along_axis(np.asarray(counts, dtype=np.float64), place[..., None], axis=-1)[..., 0]
    reached = np.take_along_axis(below, place[..., None], axis=-1)[..., 0]
    share = np.clip(1 - (reached - wanted[..., 0]) / np.where(held > 0, held, 1), 0, 1)
    edges = np.log(_edges())
    inner = np.clip(place, 1, N_BINS - 2)
    value = np.exp(edges[inner - 1] + share * (edges[inner] - edges[inner - 1]))
    value = np.where(place == 0, 0.0, np.where(place == N_BINS - 1, np.inf, value))
    return np.asarray(np.where(total > 0, value, np.nan))


class PooledValues:
    """Mean and quantiles of values that come in parts.

    Quantiles are exact up to `exact_limit` values, and within `RELATIVE_ERROR` above; the mean is always exact.
    """

    def __init__(self, exact_limit: int = EXACT_LIMIT) -> None:
        self.count, self._sum = 0, 0.0
        self._limit = exact_limit
        self._kept: list[npt.NDArray[np.float32]] | None = []
        self._counts = np.zeros(N_BINS, dtype=np.int64)

    def add(self, values: Tensor) -> None:
        """Add values, (n,) non-negative float."""
        self._counts += histogram(values).cpu().numpy()
        self._sum += float(values.double().sum())
        self.count += values.numel()
        if self._kept is not None:
            self._kept.append(values.detach().float().cpu().numpy())
        if self.count > self._limit:
            self._kept = None

    def mean(self) -> float:
        """Return the mean of all values; without any it is refused, as a quantile is."""
        self._require_values()
        return self._sum / self.count

    def quantile(self, q: float) -> float:
        """Return the smallest value with at least a share q, in (0, 1], of the values below or at it."""
        self._require_values()
        _check_share(q)
        if self._kept is None:
            return float(histogram_quantile(self._counts, q))
        rank = max(1, int(np.ceil(q * self.count * (1 - 1e-9))))
        return float(np.partition(np.concatenate(self._kept), rank - 1)[rank - 1])

    def _require_values(self) -> None:
        if not self.count:
            raise MetricError("no values were pooled: expected at least one pixel, of at least one image")


def _check_share(q: float) -> None:
    if not 0 < q <= 1:
        raise MetricError(f"quantile {q}: expected a share above 0 and at most 1")
