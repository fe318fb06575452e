"""Inputs and output gradients of linear layers, caught by hooks while a model runs forward and backward.

No weight gradient is ever formed by autograd: all parameters are frozen, the graph starts at the output of the first
watched layer, and each sample's weight gradient is put together from what the hooks saw.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from .errors import StatisticsError

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


class Watch:
    """Runs the backward passes and hands each layer's `LayerBatch` on as soon as it is complete."""

    def __init__(self, consume: Consume) -> None:
        self._consume = consume
        self._roots: list[Tensor] = []
        self._inputs: dict[str, Tensor] = {}
        self._gradients: dict[str, list[Tensor]] = {}
        self._samples, self._last = 0, False

    def forward_hook(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep the layer's input and listen for the gradient of its output."""
        if not output.requires_grad:
            output.requires_grad_(True)
            self._roots.append(output)
        self._inputs[name] = inputs[0].detach()
        output.register_hook(partial(self._gradient_hook, name))

    def _gradient_hook(self, name: str, gradient: Tensor) -> None:
        seen = self._gradients.setdefault(name, [])
        seen.append(gradient.detach())
        if self._last:
            folded = [self._by_sample(tensor) for tensor in (self._inputs.pop(name), *self._gradients.pop(name))]
            self._consume(name, LayerBatch(folded[0], tuple(folded[1:])))

    def _by_sample(self, tensor: Tensor) -> Tensor:
        # windows are partitioned sample by sample, so folding them back is a reshape
        folded = tensor.reshape(self._samples, -1, tensor.shape[-1])
        return folded.to(torch.promote_types(folded.dtype, torch.float32))

    def backward(self, losses: Sequence[Tensor], names: Sequence[str]) -> None:
        """Run one backward pass a loss through the same graph.

        Args:
            losses: Per-sample losses, each (B,).
            names: What to call the B samples in an error.

        Raises:
            StatisticsError: The loss or the gradient of a sample is not finite.
        """
        self._samples = len(names)
        for number, loss in enumerate(losses):
            _require_finite("loss", loss.detach()[:, None], names)
            self._last = number == len(losses) - 1
            # samples do not mix in evaluation mode, so the gradient of the sum holds each sample's own
            gradients = torch.autograd.grad(loss.sum(), self._roots, retain_graph=not self._last)
            for gradient in gradients:
                _require_finite("gradient", gradient.reshape(self._samples, -1), names)
        self.clear()

    def clear(self) -> None:
        """Forget everything caught."""
        self._roots.clear()
        self._inputs.clear()
        self._gradients.clear()


def _require_finite(what: str, values: Tensor, names: Sequence[str]) -> None:
    finite = torch.isfinite(values).all(1)
    if not bool(finite.all()):
        name = names[int((~finite).nonzero()[0])]
        raise StatisticsError(f"the {what} of {name} is not finite: look at this image and mask, or leave it out")


@contextmanager
def watching(model: nn.Module, layers: Mapping[str, nn.Linear], consume: Consume) -> Iterator[Watch]:
    """Watch linear layers of a model; parameters are frozen and the model is in evaluation mode meanwhile.

    Args:
        model: Run inside the block, then `backward` of what is yielded.
        layers: Linear layers by name. Their inputs are (B * k, ..., in) for a batch of B samples.
        consume: Called once a layer and batch, during the last backward pass, deepest layer first.

    Yields:
        A `Watch`. When the block ends every hook is gone, and each parameter's `requires_grad` and each module's mode
        are as before.
    """
    watch = Watch(consume)
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    handles = []
    try:
        model.eval().requires_grad_(False)
        handles += [layer.register_forward_hook(partial(watch.forward_hook, name)) for name, layer in layers.items()]
        with torch.enable_grad():
            yield watch
    finally:
        watch.clear()
        for handle in handles:
            handle.remove()
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode
