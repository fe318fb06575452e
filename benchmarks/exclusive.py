"""One run at a time on a folder of results."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import ResultsError


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder of results while the block runs; the lock goes with the process, however that ends.

    Args:
        folder: It need not exist. The lock is a hidden file beside it.

    Raises:
        ResultsError: Another run holds it.
    """
    place = folder.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.parent / f".{place.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ResultsError(f"another run is writing to {folder}: wait for it, or use another --out") from None
    try:
        yield
    finally:
        lock.release()
