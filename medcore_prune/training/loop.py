"""Fine-tuning of a SAM under MedSAM's protocol: any loss, AdamW, warm-up and cosine, gone on with after a kill."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from .._support.devices import require_default_dtype
from .._support.errors import MedcorePruneError, UnreadableError
from .._support.files import atomic_write
from .._support.machines.ranks import Ranks
from .._support.progress import track
from .._support.torch_file import read_torch_file
from ..models.precision import products_in, training_precision
from ..models.switches import set_training
from .batches.batch import Batch
from .follow import OnStep, told
from .objective import Loss, LossOf, Objective, batch_loss
from .record import Scores, TrainRecord
from .settings import TrainSettings, deciding

Validate = Callable[[nn.Module], Scores]
"""What validation images say of a model."""


class TrainState:
    """Everything that a killed training needs to go on as if nothing had happened.

    Model and optimiser take over what is stored at `path`; None keeps it in memory alone. Settings, JSON values by
    name, and identity (images, objective and start) tell this training from another one.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        settings: Mapping[str, Any],
        identity: str,
        path: Path | None,
    ) -> None:
        self.model, self.optimiser, self.path = model, optimiser, path
        self.settings, self.identity = dict(settings), identity
        self.step, self.record = 0, TrainRecord()
        self.best: dict[str, Tensor] | None = None
        self.best_score = -math.inf
        self.best_images: Mapping[str, Tensor] = {}
        self._chooses = not self.settings.get("average")
        self._saved_at = time.monotonic()
        if path is not None and path.exists():
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            stored = read_torch_file(path)
            other = self._differences(**stored["belongs_to"])
        except Exception as error:
            raise MedcorePruneError(
                f"{path} is no training state ({type(error).__name__}): remove it to start over"
            ) from error
        if other:
            raise MedcorePruneError(f"{path} belongs to another training ({other}): remove it to start over")
        try:
            self.model.load_state_dict(stored["model"])
            self.optimiser.load_state_dict(stored["optimizer"])
            self.step, self.best, self.best_score = int(stored["step"]), stored["best"], float(stored["best_score"])
            # a state that was written before there were terms has losses alone
            self.record = TrainRecord(stored["losses"], **stored.get("record", {}))
            self.best_images = dict(stored.get("best_images", {}))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RuntimeError) as error:
            raise MedcorePruneError(
                f"{path} is no training state ({type(error).__name__}): remove it to start over"
            ) from error

    def _differences(self, settings: Mapping[str, Any], identity: str) -> str:
        """Words for what tells a stored training from this one; empty where they are the same."""
        words = [
            f"{name} {settings.get(name)!r}, not {self.settings.get(name)!r}"
            for name in {**settings, **self.settings}
            if settings.get(name) != self.settings.get(name)
        ]
        if identity != self.identity:
            words.append("other images or another start")
        return "; ".join(words)

    @property
    def unsaved_seconds(self) -> float:
        """How long ago the state was saved, or made."""
        return time.monotonic() - self._saved_at

    def save(self) -> None:
        """Write the state, whole or not at all; nothing where there is no path."""
        self._saved_at = time.monotonic()
        if self.path is None:
            return
        rest = {name: value for name, value in vars(self.record).items() if name != "losses"}
        state = {
            "belongs_to": {"settings": self.settings, "identity": self.identity},
            "model": self.model.state_dict(),
            "optimizer": self.optimiser.state_dict(),
            "step": self.step,
            "losses": self.record.losses,
            "record": rest,
            "best": self.best,
            "best_score": self.best_score,
            "best_images": dict(self.best_images),
        }
        with atomic_write(self.path) as temporary:
            torch.save(state, temporary)

    def judge(self, validate: Validate) -> None:
        """Look at the validation images and keep the weights if they are the best so far and no average follows."""
        self.model.eval()
        scores = validate(self.model)
        set_training(self.model)
        noise = {"noise": scores.noise_against(self.best_images)} if scores.of_images else {}
        self.record.validations.append({"step": self.step, **scores.means, **noise})
        score = next(iter(scores.means.values()))
        if score > self.best_score:
            self.best_score, self.best_images = score, scores.of_images
            if self._chooses:
                self.record.best_step = self.step
                self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def sums(self) -> tuple[int, float, float]:
        """Steps done, and the sums of all magnitudes among weights and moments, which tell a state from most others."""
        moments = [value for each in self.optimiser.state.values() for value in each.values()]
        weights = list(self.model.state_dict().values())
        of_weights, of_moments = (
            float(sum(part.double().abs().sum().cpu() for part in parts)) for parts in (weights, moments)
        )
        return self.step, of_weights, of_moments

    @property
    def last_good(self) -> str:
        """Words that say where the last weights before a failure are."""
        if self.path is not None and self.path.exists():
            return f"{self.path} has the last good state"
        return "no state was saved, and the model holds the weights before that step"


BatchMaker = Callable[[int], Batch]


ALONE = Ranks()
"""One process, which does everything."""
SAVE_AFTER_S = 60.0
"""A state is saved at the latest when the last one is this old, so that slow steps are not lost by the hundred."""


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Learning rate of a step, counted from 0."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _optimiser(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


@torch.inference_mode(False)
@torch.enable_grad()
def train(
    model: nn.Module,
    batches: BatchMaker,
    settings: TrainSettings,
    state_path: str | Path | None = None,
    *,
    loss_of: LossOf | None = None,
    validate: Validate | None = None,
    validate_start: bool = False,
    patience: int = 0,
    label: str = "training",
    identity: str = "",
    at_a_time: int | None = None,
    progress: bool = True,
    on_step: OnStep | None = None,
    ranks: Ranks = ALONE,
) -> TrainRecord:
    """Train a model in place; the prompt encoder is frozen and stays so, and what was frozen before stays frozen.

    `batches` makes a slice of a batch from its number alone: `settings.accumulate` slices a step are numbered through,
    and the mean of their gradients is taken in order. An existing state of the same settings and identity is gone on
    with; another one, of other images, loss or start, is refused. `validate` is asked every `validate_every` steps and
    after the last, with `validate_start` before the first too: its first score, higher is better, chooses the weights;
    after `patience` looks that show a decline (`record.declined`) the training stops, 0 for never. At most `at_a_time`
    images go through the model together; the gradients of the parts are summed, so that results change by rounding
    alone. Running statistics of batch norms stay as they are. `on_step` is told of each step. `ranks` are processes
    that share the slices of each step and come to the bits of one; the first alone writes, validates, shows progress
    and tells `on_step`.

    The model ends in evaluation mode with the best validated weights, or the last ones; with the last, too, where the
    settings say that an average follows, whose share is chosen then. A loss or gradient that is not finite ends the
    training with an error in all processes; the last saved state stays.
    """
    require_default_dtype()
    model.get_submodule("prompt_encoder").requires_grad_(False)
    if settings.accumulate % ranks.count:
        raise UnreadableError(
            f"accumulate is {settings.accumulate}: expected a multiple of the {ranks.count} processes"
        )
    place = None if state_path is None else Path(state_path)
    device = next(model.parameters()).device
    # as it is computed, so that a state is gone on with in the same
    settings = replace(settings, precision=training_precision(settings.precision, device))
    state = TrainState(model, _optimiser(model, settings), deciding(asdict(settings)), identity, place)
    if ranks.count > 1:
        ranks.require_same((identity, state.settings, state.sums()), "images, models, settings or a state")
    objective = ranks.joined(
        Objective(model, loss_of or (lambda trained, batch: Loss(batch_loss(trained, batch, settings.precision))))
    )
    every = settings.validate_every if validate else 0
    progress, on_step = progress and ranks.first, on_step if ranks.first else None
    if progress and state.step:
        click.echo(f"{label}: going on after step {state.step} of {settings.steps}", err=True)
    with _training(model, state.optimiser), products_in(settings.precision, device):
        if validate and every and validate_start and not state.record.validations:
            _judge(state, validate, ranks)
            if on_step:
                on_step(0, told(state.record, 0, None))
        for step in track(
            range(state.step, settings.steps), label, total=settings.steps, done=state.step, show=progress
        ):
            if state.record.declined(patience, settings.warmup):
                state.record.stopped_early = True
                break
            start = time.perf_counter()
            numbers = range(step * settings.accumulate, (step + 1) * settings.accumulate)[ranks.rank :: ranks.count]
            _take_step(state, objective, map(batches, numbers), settings, at_a_time, ranks)
            state.record.seconds += time.perf_counter() - start
            last = state.step == settings.steps
            judged = bool(every) and (state.step % every == 0 or last)
            if validate and judged:
                _judge(state, validate, ranks)
            due = state.step % settings.save_every == 0 or judged or last
            if due and ranks.count > 1:
                ranks.require_same(state.sums(), f"weights after step {state.step}")
            if ranks.first and (due or state.unsaved_seconds > SAVE_AFTER_S):
                state.save()
            if on_step:
                on_step(state.step, told(state.record, state.step, learning_rate_at(step, settings)))
    if state.best is not None:
        model.load_state_dict(state.best)
    ranks.share(model)
    return state.record


def _judge(state: TrainState, validate: Validate, ranks: Ranks) -> None:
    """Let the first process look at the validation images, and tell the others what it saw."""
    if ranks.first:
        state.judge(validate)
    state.record = ranks.told(state.record)


@contextmanager
def _training(model: nn.Module, optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """A model in training mode, its numbers not those of a block around; in evaluation mode afterwards."""
    set_training(model)
    try:
        with torch.autocast(next(model.parameters()).device.type, enabled=False):
            yield
    finally:
        torch.clear_autocast_cache()
        optimiser.zero_grad(set_to_none=True)
        model.eval()


def _take_step(
    state: TrainState,
    objective: nn.Module,
    slices: Iterable[Batch],
    settings: TrainSettings,
    at_a_time: int | None,
    ranks: Ranks,
) -> None:
    model = state.model
    # within another block, one's own leaves the weights of the last step behind
    torch.clear_autocast_cache()
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate_at(state.step, settings)
    state.optimiser.zero_grad(set_to_none=True)
    seen, shares, names = list[Tensor](), list[list[float]](), list[str]()
    for batch in slices:
        if shares and not ranks.first:
            # the sum over the slices before is brought in by the first
            state.optimiser.zero_grad(set_to_none=True)
        parts = list(batch.parts(at_a_time))
        # a loss is a mean over images, and so a weighted mean of those of its parts
        shares.append([len(part.images) / len(batch.images) / settings.accumulate for part in parts])
        for place, part in enumerate(parts):
            with nullcontext() if part is parts[-1] else ranks.by_itself(objective):
                loss = _backward(objective, part, shares[-1][place])
            names = list(loss.terms)
            seen.append(torch.stack([loss.total.detach(), *(term.detach() for term in loss.terms.values())]))
    norm = nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], settings.clip_norm)
    # the one place of a step where the device is waited for
    *losses, length = torch.cat([*seen, norm.detach().reshape(1).to(seen[0])]).tolist()
    everyones = ranks.gathered((shares, losses))
    if not all(math.isfinite(loss) for _, theirs in everyones for loss in theirs):
        raise _not_finite("loss", state)
    # a gradient that is not finite would spoil every weight, and the state saved next with them
    if not math.isfinite(length):
        raise _not_finite("gradient", state)
    state.optimiser.step()
    state.step += 1
    total, *terms = _means(everyones, 1 + len(names))
    state.record.add(total, dict(zip(names, terms, strict=True)))


def _backward(objective: nn.Module, part: Batch, share: float) -> Loss:
    loss: Loss = objective(part.to(next(objective.parameters()).device))
    (share * loss.total).backward()
    return loss


def _means(everyones: Sequence[tuple[Sequence[Sequence[float]], Sequence[float]]], count: int) -> list[float]:
    """The loss of a batch and its terms, `count` numbers, of what each process saw: shares by slice, and losses."""
    rows = [iter([losses[place : place + count] for place in range(0, len(losses), count)]) for _, losses in everyones]
    values = [0.0] * count
    # slices go round: the first of every process, the second of every process
    for turn in zip(*(shares for shares, _ in everyones), strict=True):
        for mine, theirs in zip(rows, turn, strict=True):
            for share in theirs:
                values = [value + share * each for value, each in zip(values, next(mine), strict=True)]
    return values


def _not_finite(what: str, state: TrainState) -> MedcorePruneError:
    return MedcorePruneError(
        f"the {what} of step {state.step} is not finite: lower the learning rate; {state.last_good}"
    )
