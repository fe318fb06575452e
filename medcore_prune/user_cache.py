"""Where this package keeps what it can make again."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Return `$MEDCORE_PRUNE_CACHE`, else `medcore_prune` in the user's cache."""
    if place := os.environ.get("MEDCORE_PRUNE_CACHE"):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "medcore_prune"
