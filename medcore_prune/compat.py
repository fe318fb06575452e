"""Import segment-anything where torchvision's compiled operators do not load.

A CPU build of torch beside PyPI's torchvision (built for CUDA) makes `import torchvision` fail with `operator
torchvision::nms does not exist`: torchvision registers shape functions for operators that its binary never declared.
segment-anything uses torchvision only to resize images and to suppress overlapping boxes in its automatic mask
generator, so declaring the two schemas is enough for everything that this package calls.
"""

import importlib
import sys

import torch

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _forget_torchvision() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]


def ensure_torchvision() -> None:
    """Make `import torchvision` work, declaring its missing operator schemas where that is what failed.

    Raises:
        RuntimeError: torchvision fails to import for any other reason; its own error, unchanged.
    """
    try:
        importlib.import_module("torchvision")
        return
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    for name, schema in _SCHEMAS.items():
        torch.library.define(name, schema)
    _forget_torchvision()
    importlib.import_module("torchvision")


ensure_torchvision()
