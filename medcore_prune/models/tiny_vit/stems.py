"""What lies before the first block that can be cut, made once an image for all models that share it.

A stem of convolutions at full resolution takes a third of LiteMedSAM's time, and is the same in a model, in what is cut
from it, in the corrected and in the recovered one. Whoever runs many of them on the same images keeps its tokens::

    with mp.kept_stems():
        mp.evaluate(model, data)
        mp.evaluate(small, data)

Tokens are known by the stem's weights, by the image's numbers and by the number type of the run, so that none can be
taken for another's.
"""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from ..families import encoder_of, family_of
from ..fingerprint import lines_of
from ..precision import current_precision
from ..switches import RUNNING_NORMS

_GIGABYTE = 1e9
LIMIT_GB = 2.0
"""Memory for tokens, unless said otherwise: 240 images of LiteMedSAM."""


class Stems:
    """Tokens by weights and image, up to a limit, beyond which any of them makes room for the newest.

    By chance and not the oldest: over a set of images that is too large, read again and again, the oldest would always
    be gone by the time that it is needed.

    Attributes:
        found: How many images were not run again.
        held_bytes: Memory taken.
    """

    def __init__(self, limit_bytes: float) -> None:
        self._limit, self._tokens = limit_bytes, dict[tuple[str, str], Tensor]()
        self._chance = random.Random(0)
        # a context that was copied for another thread has the same
        self._lock = threading.Lock()
        self.found, self.held_bytes = 0, 0

    def of(self, model: nn.Module, images: Tensor) -> Tensor:
        """Tokens (B, h, w, C) of images (B, 3, S, S)."""
        run = (str(images.device), str(images.dtype), _autocast(images), current_precision(images.device))
        weights = _digest(_state(model), *run, *(line for part in _parts(model) for line in lines_of(part)))
        # one by one, so that what comes of an image does not depend on those beside it
        return torch.cat([self._one(model, weights, image[None]) for image in images])

    def _one(self, model: nn.Module, weights: str, image: Tensor) -> Tensor:
        key = (weights, _digest([image]))
        with self._lock:
            if key in self._tokens:
                self.found += 1
                return self._tokens[key]
            made = _stem(model, image)
            while self._tokens and self.held_bytes + made.nbytes > self._limit:
                self.held_bytes -= self._tokens.pop(self._chance.choice(list(self._tokens))).nbytes
            if made.nbytes <= self._limit:
                self._tokens[key] = made
                self.held_bytes += made.nbytes
            return made


_KEPT: ContextVar[Stems | None] = ContextVar("kept_stems", default=None)


@contextmanager
def kept_stems(limit_gb: float = LIMIT_GB) -> Iterator[Stems]:
    """Keep the tokens of stems while the block lasts, in this thread.

    Of families without a stem nothing is kept. Inside another such block, that one's are used.

    Args:
        limit_gb: Memory for them.

    Yields:
        What is kept.
    """
    if (outer := _KEPT.get()) is not None:
        yield outer
        return
    stems = Stems(limit_gb * _GIGABYTE)
    token = _KEPT.set(stems)
    try:
        yield stems
    finally:
        _KEPT.reset(token)


def stem_tokens(model: nn.Module, images: Tensor) -> Tensor | None:
    """Tokens that the first block reads, kept or made; None for a family without a stem, or where it is trained.

    None too where the encoder is patched or hooked, which then must run whole.
    """
    if not hasattr(family_of(model), "stem") or not _runs_apart(model):
        return None
    parts = _parts(model)
    trained = images.requires_grad or any(p.requires_grad for part in parts for p in part.parameters())
    moving = any(layer.training for part in parts for layer in part.modules() if isinstance(layer, RUNNING_NORMS))
    if (trained and torch.is_grad_enabled()) or moving:
        return None
    kept = _KEPT.get()
    return _stem(model, images) if kept is None else kept.of(model, images)


def keeps() -> bool:
    """Whether tokens are kept here."""
    return _KEPT.get() is not None


def _stem(model: nn.Module, images: Tensor) -> Tensor:
    tokens: Tensor = family_of(model).stem(model, images)  # type: ignore[attr-defined]
    return tokens.detach()


def _autocast(images: Tensor) -> str:
    """The number type of an autocast block around: its tokens are not those of a run outside."""
    kind = images.device.type
    return str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else ""


def _state(model: nn.Module) -> list[Tensor]:
    return [value for part in _parts(model) for value in part.state_dict().values()]


def _parts(model: nn.Module) -> list[nn.Module]:
    parts: list[nn.Module] = family_of(model).stem_parts(model)  # type: ignore[attr-defined]
    return parts


def _runs_apart(model: nn.Module) -> bool:
    """Whether the encoder runs as its class says, so that its first part may run by itself and its rest after it."""
    encoder = encoder_of(model)
    patched = any("forward" in vars(part) for part in (encoder, *(m for p in _parts(model) for m in p.modules())))
    return not (patched or encoder._forward_hooks or encoder._forward_pre_hooks)


def _digest(values: list[Tensor], *more: str) -> str:
    digest = hashlib.sha256("/".join(more).encode())
    for value in values:
        digest.update(f"{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
