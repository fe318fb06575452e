"""One run at a time on a folder of results, or on a file."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import ResultsError


@contextmanager
def exclusive(result: Path) -> Iterator[None]:
    """Hold a folder of results, or a file, while the block runs; the lock goes with the process, however that ends.

    Args:
        result: It need not exist. The lock is a hidden file beside it, which goes with the block.

    Raises:
        ResultsError: Another run holds it.
    """
    place = result.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    file = place.parent / f".{place.name}.lock"
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ResultsError(f"another run is writing to {result}: wait for it, or use another --out") from None
    try:
        yield
    finally:
        # while it is held, so that the file is not that of another run; Windows keeps files that are open
        with suppress(OSError):
            file.unlink()
        lock.release()
