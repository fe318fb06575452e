"""The extra `onnx`: whether it is there, its versions, and what its packages raise."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ..._support.errors import MedcorePruneError

_EXTRA = ("onnx", "onnxscript", "onnxruntime")
_CHECKERS = ("onnx", "onnxruntime")
_PACKAGES = ("medcore-prune", "torch", "onnx", "onnxruntime")
_NOT_KEPT = "nothing was written; try the other exporter, or another version of onnxruntime"


def require_onnx() -> None:
    """Refuse where the extra is not installed, in one line that says how to install it."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise MedcorePruneError(f'ONNX needs {", ".join(missing)}: pip install "medcore-prune[onnx]"')


def versions() -> dict[str, str]:
    """Versions of the packages that files and their numbers come from."""
    return {name: version(name) for name in _PACKAGES}


@contextmanager
def saying_why(path: str | Path, advice: str = _NOT_KEPT) -> Iterator[None]:
    """Turn what ONNX and ONNX Runtime raise, which have no error in common, into one that names the file."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _CHECKERS:
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise MedcorePruneError(
            f"{path}: the exported file does not run under ONNX Runtime ({reason}): {advice}"
        ) from error
