"""Images with masks: folders, splits, prompts, phantoms. What is offered stands in `__init__.pyi`."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
