"""Fine-tuning of a SAM under MedSAM's protocol: Dice plus binary cross-entropy, AdamW, warm-up and cosine."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .data.pool import Batch
from .errors import MedcorePruneError
from .files import atomic_write
from .losses import plain_loss
from .progress import track
from .protocol import decode, embed, input_logits

BatchMaker = Callable[[int], Batch]
Validate = Callable[[nn.Module], float]


@dataclass(frozen=True)
class TrainSettings:
    """What determines a training besides its data.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak of AdamW's learning rate.
        warmup: Steps of linear warm-up; a half cosine follows.
        weight_decay: Of AdamW, on matrices alone.
        clip_norm: Gradients are scaled down to this norm.
        save_every: Steps between saved states.
        validate_every: Steps between validations; the weights of the best one are kept. 0 for none.
        mixed_precision: bfloat16 for the forward pass where the processor has it in hardware.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    save_every: int = 100
    validate_every: int = 0
    mixed_precision: bool = True


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed in hardware there, rather than emulated slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


def batch_loss(model: nn.Module, batch: Batch, mixed_precision: bool = False) -> Tensor:
    """Mean Dice + BCE of a batch at the input grid; the encoder runs once an image, whatever the prompts."""
    device = batch.images.device
    with torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision and has_bfloat16(device)):
        embeddings = embed(model, batch.images)
        prompts = len(batch.boxes) // len(batch.images)
        logits = decode(model, embeddings.repeat_interleave(prompts, dim=0), batch.boxes)
    return plain_loss(input_logits(logits.float(), batch.images.shape[-1]), batch.masks).mean()


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Learning rate of a step, counted from 0."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class _State:
    """Everything that a killed training needs to go on as if nothing had happened."""

    def __init__(
        self, model: nn.Module, optimiser: torch.optim.Optimizer, settings: TrainSettings, path: Path, identity: str
    ) -> None:
        self.model, self.optimiser, self.path = model, optimiser, path
        self.belongs_to = {"settings": asdict(settings), "identity": identity}
        self.step, self.losses = 0, list[float]()
        self.best, self.best_score = None, -math.inf  # type: dict[str, Tensor] | None, float
        if path.exists():
            self._load()

    def _load(self) -> None:
        try:
            stored = torch.load(self.path, map_location="cpu", weights_only=True)
            fits = stored["belongs_to"] == self.belongs_to
        except Exception as error:
            raise MedcorePruneError(
                f"{self.path} is no training state ({type(error).__name__}): remove it to start over"
            ) from error
        if not fits:
            raise MedcorePruneError(
                f"{self.path} belongs to a training with other images, another start or other settings: remove it to "
                "start over"
            )
        self.model.load_state_dict(stored["model"])
        self.optimiser.load_state_dict(stored["optimizer"])
        self.step, self.losses = stored["step"], stored["losses"]
        self.best, self.best_score = stored["best"], stored["best_score"]

    def save(self) -> None:
        state = {
            "belongs_to": self.belongs_to,
            "model": self.model.state_dict(),
            "optimizer": self.optimiser.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "best": self.best,
            "best_score": self.best_score,
        }
        with atomic_write(self.path) as temporary:
            torch.save(state, temporary)

    def judge(self, validate: Validate) -> None:
        self.model.eval()
        score = validate(self.model)
        self.model.train()
        if score > self.best_score:
            self.best_score = score
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}


def _optimiser(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def fit(
    model: nn.Module,
    batches: BatchMaker,
    settings: TrainSettings,
    state_path: str | Path,
    *,
    validate: Validate | None = None,
    label: str = "training",
    identity: str = "",
) -> list[float]:
    """Train a model in place; the prompt encoder stays frozen.

    Args:
        model: A `Sam`; ends in evaluation mode with the best validated weights, or the last ones.
        batches: The batch of each step, a function of the step alone.
        settings: Steps, learning rate and so on.
        state_path: Where the state is kept; an existing one of the same settings is gone on with.
        validate: A score of the model, higher is better, taken every `validate_every` steps.
        label: Shown beside the progress bar.
        identity: Of what the settings do not tell, the images and the weights to start from; a stored state of another
            one is refused.

    Returns:
        The loss of every step.

    Raises:
        MedcorePruneError: The loss stops being finite (the last saved state stays), or the state file does not fit.
    """
    device = next(model.parameters()).device
    model.get_submodule("prompt_encoder").requires_grad_(False)
    state = _State(model, _optimiser(model, settings), settings, Path(state_path), identity)
    model.train()
    for step in track(range(state.step, settings.steps), label, total=settings.steps, done=state.step):
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        loss = batch_loss(model, batches(step).to(device), settings.mixed_precision)
        if not bool(torch.isfinite(loss)):
            raise MedcorePruneError(
                f"the loss of step {step} is not finite: lower the learning rate; {state_path} has the last good state"
            )
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], settings.clip_norm)
        state.optimiser.step()
        state.step, last = step + 1, step + 1 == settings.steps
        state.losses.append(loss.item())
        if validate and settings.validate_every and (state.step % settings.validate_every == 0 or last):
            state.judge(validate)
        if state.step % settings.save_every == 0 or last:
            state.save()
    if state.best is not None:
        model.load_state_dict(state.best)
    model.eval()
    return state.losses
