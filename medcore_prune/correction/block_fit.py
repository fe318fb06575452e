"""All weights of a block fitted together, so that the cut network's stream behind it becomes the dense network's.

After the least squares, with F the block as it is left, w its weights, X the cut network's stream before it and T the
dense network's behind it, Adam takes down

    |F_w(X) - T|^2_D / |T|^2_D

where D weighs tokens as the least squares do (METHOD section 15; SNOWS, arXiv 2411.18376, which takes Newton's steps).
A share of the images is held out of the steps: the weights with the least error on those are kept, the ones before the
first step among them. Running statistics of batch norms stay as they are.
"""

import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from .._support.errors import StatisticsError
from .images import CorrectionImages
from .settings import BlockCorrection, CorrectionSettings

_IMAGES_A_STEP = 8
"""At most."""
_HELD_OUT = 1 / 8
"""Share of each data set's images, in whole groups."""
_LOOKS = 10
"""How often a fit asks for the error on what is held out."""

Read = Callable[[str, Sequence[int]], Tensor]
"""Reads images by their rows, (B, h, w, D): of `"cut"` the stream before the block, of `"dense"` that behind it."""


class BlockFitter:
    """Fits blocks one by one on the images of a correction, `batch_size` of them at a time.

    Raises:
        StatisticsError: No data set has two groups of images, one to fit on and one to hold out.
    """

    def __init__(self, images: CorrectionImages, settings: CorrectionSettings, seed: int, batch_size: int) -> None:
        self._images, self._seed, self._batch_size = images, seed, batch_size
        self._steps, self._learning_rate = settings.fit_steps, settings.fit_learning_rate
        held = held_out(images.groups, seed)
        if not held:
            raise StatisticsError(
                "fit_steps holds images out, and every data set has a single group of them (a video, a patient): give "
                "more images, or leave fit_steps=0"
            )
        self._held = _shares(images, held)
        self._fitted = _shares(images, set(range(len(images))) - held)

    def fit(self, module: nn.Module, name: str, layer_name: str, read: Read) -> Generator[None, None, BlockCorrection]:
        """Fit a block in place, once all steps are done; yields after each of them.

        `layer_name` is of the teacher's layer that adds to the stream last, whose token weights count.
        """
        # a copy of its own needs no flag, gradient or half-fitted weight of the model
        trial = copy.deepcopy(module).requires_grad_(True)
        errors = _Errors(trial, read, self._images.token_weights(layer_name), self._batch_size)
        size, held_size = errors.target_squares(self._fitted), errors.target_squares(self._held)
        fitted_before, held_out_before = errors.relative(self._fitted, size), errors.relative(self._held, held_size)
        best = _Best(0, held_out_before, copy.deepcopy(trial.state_dict()))
        unread: list[Tensor] = []
        for step, loss in enumerate(self._descend(trial, errors, size, f"{self._seed}/{name}"), start=1):
            unread.append(loss)
            if step % -(-self._steps // _LOOKS) == 0 or step == self._steps:
                # losses are read at a look alone: whoever asks after every step waits for the device every time
                self._require_finite(name, step - len(unread) + 1, torch.stack(unread).tolist())
                unread.clear()
                found = errors.relative(self._held, held_size)
                self._require_finite(name, step, [found])
                if found < best.error:
                    best = _Best(step, found, copy.deepcopy(trial.state_dict()))
            yield
        trial.load_state_dict(best.state)
        with torch.no_grad():
            for parameter, value in zip(module.parameters(), trial.parameters(), strict=True):
                parameter.copy_(value)
        fitted_after = errors.relative(self._fitted, size)
        return BlockCorrection(name, best.step, fitted_before, fitted_after, held_out_before, best.error)

    def _require_finite(self, name: str, first: int, losses: Sequence[float]) -> None:
        for step, loss in enumerate(losses, start=first):
            if not math.isfinite(loss):
                raise StatisticsError(
                    f"{name}: the error of step {step} of the fit is not finite: take a fit_learning_rate below "
                    f"{self._learning_rate:g}"
                )

    def _descend(self, block: nn.Module, errors: "_Errors", size: float, seed: str) -> Iterator[Tensor]:
        """Take all steps, and yield the loss before each, where it was computed, once it is taken.

        `size` is sum D T^2 over all images that are fitted.
        """
        optimiser = torch.optim.Adam(block.parameters(), lr=self._learning_rate)
        draws = drawn_rows(list(self._fitted), seed)
        for step in range(self._steps):
            rows = next(draws)
            scale = len(self._fitted) / len(rows) / max(size, 1e-300)
            loss = errors.differentiate({row: scale * self._fitted[row] for row in rows})
            for group in optimiser.param_groups:
                group["lr"] = self._learning_rate * 0.5 * (1 + math.cos(math.pi * step / self._steps))
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            yield loss


@dataclass(frozen=True)
class _Best:
    """The weights with the least error on what is held out so far, and after which step that was."""

    step: int
    error: float
    state: dict[str, Tensor]


class _Errors:
    """Squared errors of a block's stream against the dense one; `rows` of images with a weight each."""

    def __init__(self, block: nn.Module, read: Read, token_weights: Tensor | None, batch_size: int) -> None:
        self._block, self._read, self._batch_size = block, read, batch_size
        self._token_weights = token_weights

    @torch.no_grad()
    def relative(self, rows: dict[int, float], size: float) -> float:
        """sqrt(sum D (F(X) - T)^2 / sum D T^2), the latter being the `size` that `target_squares` says."""
        error = sum(torch.stack([self._error(part) for part in self._parts(rows)]).tolist())
        return math.sqrt(error / max(size, 1e-300))

    @torch.no_grad()
    def target_squares(self, rows: dict[int, float]) -> float:
        """Sum D T^2."""
        found = [self._weighed(self._read("dense", list(part)), part) for part in self._parts(rows)]
        return float(sum(torch.stack(found).tolist()))

    @torch.enable_grad()
    def differentiate(self, rows: dict[int, float]) -> Tensor:
        """Add the gradient of sum D (F(X) - T)^2 to the block's parameters; return that sum, where it was computed."""
        losses = []
        for part in self._parts(rows):
            loss = self._error(part)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).double().sum()

    def _parts(self, rows: dict[int, float]) -> Iterator[dict[int, float]]:
        places = list(rows.items())
        for start in range(0, len(places), self._batch_size):
            yield dict(places[start : start + self._batch_size])

    def _error(self, rows: dict[int, float]) -> Tensor:
        got = self._block(self._read("cut", list(rows)))
        return self._weighed(got - self._read("dense", list(rows)).to(got), rows)

    def _weighed(self, values: Tensor, rows: dict[int, float]) -> Tensor:
        squares = values.square().sum(-1)
        if self._token_weights is not None:
            squares = squares * self._token_weights[list(rows)].to(squares)
        return squares.sum((1, 2)) @ squares.new_tensor(list(rows.values()))


def held_out(groups: Sequence[tuple[str, str]], seed: int) -> set[int]:
    """Choose the images that are held out, by place: of each data set an eighth, at least one, in whole groups.

    `groups` has data set and group of every image, data set after data set; one of a single group is fitted whole.
    """
    chosen: set[int] = set()
    for dataset, rows in groupby(range(len(groups)), key=lambda row: groups[row][0]):
        places = list(rows)
        names = list(dict.fromkeys(groups[row][1] for row in places))
        random.Random(f"{seed}/{dataset}").shuffle(names)
        found: list[int] = []
        for name in names[:-1]:
            if len(found) >= max(1, round(_HELD_OUT * len(places))):
                break
            found += [row for row in places if groups[row][1] == name]
        chosen.update(found)
    return chosen


def _shares(images: CorrectionImages, chosen: set[int]) -> dict[int, float]:
    """Weigh each sample of the chosen images so that all sum to 1 and each of their data sets counts the same."""
    set_of = {row: images.groups[row][0] for row in sorted(chosen)}
    samples: Counter[str] = Counter()
    for row, name in set_of.items():
        samples[name] += images.samples_of[row]
    return {row: 1 / (len(samples) * samples[name]) for row, name in set_of.items()}


def drawn_rows(rows: Sequence[int], seed: str) -> Iterator[list[int]]:
    """Draw the rows of one step after another, without end: all of them, in a new order, before any comes again."""
    generator, steps = random.Random(seed), -(-len(rows) // _IMAGES_A_STEP)
    while True:
        order = generator.sample(rows, len(rows))
        for step in range(steps):
            # of even sizes, so that no step has a few alone
            yield order[step * len(rows) // steps : (step + 1) * len(rows) // steps]
