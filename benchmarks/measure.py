"""Seconds and peak memory of a piece of work: the package's own."""

from ..measure import Measured, measured

__all__ = ["Measured", "measured"]
