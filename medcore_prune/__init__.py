"""Pluggable pruning criteria for SAM and MedSAM image encoders, judged by the contour.

import medcore_prune as mp

model, base = mp.zoo.pocket("adapted"), mp.zoo.pocket("reference")
images = {"polyps": mp.data.phantoms.make("phantom_polyp_a", count=40)}
statistics = mp.calibrate(model, base, images, samples=16)
plan = mp.plan(model, "h50_m70", "medcore", statistics=statistics)
small = mp.prune(model, plan)
mp.evaluate(small, images)
"""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from ._support.version import __version__ as __version__

# In a checkout, criteria/, baselines/ and benchmarks/ lie beside this folder rather than in it.
_checkout = _Path(__file__).resolve().parent.parent
if (_checkout / "setup.cfg").exists():
    __path__.append(str(_checkout))


if _TYPE_CHECKING:
    from .public import *  # noqa: F403
    from .public import __all__ as __all__

else:

    def __getattr__(name: str) -> _Any:
        """Import what `public` lists when the first of it is asked for: the command lines must not wait for torch."""
        if name != "__all__" and name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if _find_spec(f"{__name__}.{name}") is not None:
            return _import_module(f".{name}", __name__)
        public = _import_module(".public", __name__)
        for each in ["__all__", *public.__all__]:
            # what a user has set meanwhile stays
            globals().setdefault(each, getattr(public, each))
        if name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
