"""Pluggable pruning criteria for SAM and MedSAM image encoders, judged by the contour.

import medcore_prune as mp

model, base = mp.zoo.pocket("adapted"), mp.zoo.pocket("reference")
images = {"polyps": mp.data.phantoms.make("phantom_polyp_a", count=40)}
statistics = mp.calibrate(model, base, images, samples=16)
plan = mp.plan(model, "h50_m70", "medcore", statistics=statistics)
small = mp.prune(model, plan)
mp.evaluate(small, images)
"""

from pathlib import Path as _Path

import lazy_loader as _lazy

from ._support.version import __version__ as __version__

# In a checkout, criteria/, baselines/ and benchmarks/ lie beside this folder rather than in it.
_checkout = _Path(__file__).resolve().parent.parent
if (_checkout / "setup.cfg").exists():
    __path__.append(str(_checkout))

# What there is stands in __init__.pyi: the command lines must not wait for torch.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
