"""Inputs and output gradients of linear layers, caught by hooks while a model runs forward and backward.

No weight gradient is ever formed by autograd: all parameters are frozen, the graph starts at the output of the first
watched layer, and each sample's weight gradient is put together from what the taps behind the layers saw.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import StatisticsError
from ..models.protocol import rows_of
from ..models.switches import evaluating

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class LayerBatch:
    """What one linear layer saw of a batch.

    Attributes:
        inputs: x, (B, T, in), the tokens of each sample.
        gradients: dL/d(output), (B, T, out), one for each loss.
    """

    inputs: Tensor
    gradients: tuple[Tensor, ...]

    @cached_property
    def per_sample(self) -> list[Pair]:
        """Gradient of each sample's loss with respect to weight and bias, for each loss.

            dL_b/dW = sum_t d[b, t] x[b, t]^T,   dL_b/dbias = sum_t d[b, t]

        Returns:
            Pairs of (B, out, in) and (B, out), at least float32.
        """
        return [(torch.einsum("bto,bti->boi", d, self.inputs), d.sum(1)) for d in self.gradients]


Consume = Callable[[str, LayerBatch], None]


@dataclass(frozen=True)
class Round:
    """Samples, no two of one image, among `images` that went forward: the image of each, and whether others follow."""

    images: int
    rows: Sequence[int]
    last: bool = True


class _Tap(torch.autograd.Function):
    """The identity on a layer's output; its backward sees the layer's input beside the gradient of its output.

    The input is kept as autograd keeps tensors, so that under activation checkpointing it is recomputed rather than
    held, and what is recomputed is never counted a second time: only the graph of the losses runs backward.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, inputs: Tensor, start: Tensor, seen: Callable[..., None]) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.seen, ctx.start = seen, start.shape
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        below, _, _, _ = ctx.needs_input_grad
        ctx.seen(ctx.saved_tensors[0].detach(), gradients[0].detach(), below)
        return gradients[0] if below else None, None, gradients[0].new_zeros(ctx.start), None


class Watch:
    """Runs the backward passes and hands each layer's `LayerBatch` on as soon as it is complete.

    The forward pass is of N images. Samples that share one are differentiated in rounds, each with one sample of some
    of the images. Whether losses and gradients are finite is asked for once, behind the last round, so that a device is
    not waited for between its passes.
    """

    def __init__(self, consume: Consume, names: Iterable[str]) -> None:
        self._consume, self._unseen = consume, dict.fromkeys(names)
        # every tap hangs on it, so that the graph reaches down to the first watched layer and no further
        self._start = torch.zeros((), requires_grad=True)
        self._deepest: list[Tensor] = []
        self._gradients: dict[str, list[Tensor]] = {}
        self._round, self._last = Round(0, ()), False
        self._finite: list[tuple[str, Sequence[str], Tensor]] = []

    def forward_hook(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Put a tap behind the layer."""
        self._unseen.pop(name, None)
        start = self._start.to(output.device)
        tapped: Tensor = _Tap.apply(output, inputs[0], start, partial(self._seen, name))
        return tapped

    def _seen(self, name: str, inputs: Tensor, gradient: Tensor, below: bool) -> None:
        if not below:
            self._deepest.append(gradient)
        if not self._last:
            self._gradients.setdefault(name, []).append(gradient)
            return
        folded = [self._by_sample(tensor) for tensor in (inputs, *self._gradients.pop(name, ()), gradient)]
        self._consume(name, LayerBatch(folded[0], tuple(folded[1:])))

    def _by_sample(self, tensor: Tensor) -> Tensor:
        # windows are partitioned image by image, so folding them back is a reshape
        folded = rows_of(tensor.reshape(self._round.images, -1, tensor.shape[-1]), self._round.rows)
        return folded.to(torch.promote_types(folded.dtype, torch.float32))

    def backward(self, losses: Sequence[Tensor], names: Sequence[str], among: Round | None = None) -> None:
        """Run one backward pass for each loss, (B,), through the same graph.

        Args:
            losses: Of B samples, no two of which share an image.
            names: What errors call them.
            among: Which round of several it is; by default the only one, a sample an image in order.
        """
        if self._unseen:
            raise StatisticsError(
                f"{next(iter(self._unseen))} did not run: the model computes without calling that layer (its class "
                "takes the weight itself), so that nothing is known of what it read"
            )
        self._round = among or Round(len(names), range(len(names)))
        try:
            self._run(losses, names)
        except Exception:
            # who reads what is not finite may fail for that reason alone
            self._check()
            raise
        if self._round.last:
            self._check()

    def _run(self, losses: Sequence[Tensor], names: Sequence[str]) -> None:
        for number, loss in enumerate(losses):
            self._note("loss", loss.detach()[:, None], names)
            self._last = number == len(losses) - 1
            # samples do not mix in evaluation mode, so the gradient of the sum holds each sample's own
            torch.autograd.grad(loss.sum(), self._start, retain_graph=not (self._last and self._round.last))
            for gradient in self._deepest:
                self._note("gradient", rows_of(gradient.reshape(self._round.images, -1), self._round.rows), names)
            self._deepest.clear()
        self._gradients.clear()

    def _note(self, what: str, values: Tensor, names: Sequence[str]) -> None:
        self._finite.append((what, names, torch.isfinite(values).all(1)))

    def _check(self) -> None:
        noted, self._finite = self._finite, []
        if not noted:
            return
        flags = torch.cat([finite for _, _, finite in noted]).tolist()
        for what, names, finite in noted:
            own, flags = flags[: len(finite)], flags[len(finite) :]
            if not all(own):
                wrong = f"the {what} of {names[own.index(False)]} is not finite"
                raise StatisticsError(f"{wrong}: look at this image and mask, or leave it out")

    def clear(self) -> None:
        """Forget everything caught."""
        self._deepest.clear()
        self._gradients.clear()
        self._finite.clear()


@contextmanager
def watching(model: nn.Module, layers: Mapping[str, nn.Linear], consume: Consume) -> Iterator[Watch]:
    """Watch linear layers of a model that runs inside the block; then call `backward` of what is yielded.

    Their inputs are (N * k, ..., in) for N images. `consume` is called once a layer and round of samples, during the
    round's last backward pass, deepest layer first. Parameters are frozen and the model is in evaluation mode
    meanwhile; when the block ends every hook is gone, and each parameter's `requires_grad` and each module's mode are
    as before.
    """
    watch = Watch(consume, layers)
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    handles = []
    try:
        model.requires_grad_(False)
        handles += [layer.register_forward_hook(partial(watch.forward_hook, name)) for name, layer in layers.items()]
        with evaluating(model), torch.enable_grad():
            yield watch
    finally:
        watch.clear()
        for handle in handles:
            handle.remove()
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
