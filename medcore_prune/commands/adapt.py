"""`medcore-prune adapt`: fine-tune a checkpoint on one's own images, as MedSAM was fine-tuned from SAM."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from .._support.devices import require_device
from .._support.errors import CheckpointError
from .._support.files import exclusive, together, write_json_atomic
from ..checkpoints.sam import load_sam, save_training_checkpoint
from ..data.folders.folder import named_folders, parse_named
from ..data.samples import SampleSet
from ..data.splits.beside import after, split_file
from ..data.splits.split import Split, split
from ..models.families import geometry_of
from ..models.protocol import batch_of
from ..models.sam_shape import SHAPES
from ..training.adapt import BLIND_BELOW, adapt, image_dependence
from ..training.loop import TrainRecord
from ..training.settings import AdaptSettings
from ..zoo import pocket
from .inputs import POCKET, check_outputs, check_split
from .options import (
    FILE,
    MODEL_FILE,
    Whole,
    device_option,
    image_size_option,
    layout_option,
    overwrite_option,
    resume_option,
    seed_option,
    training_options,
)

_DATA_HELP = "A folder of images and masks, and a name for it; may be repeated."

_SUFFIXES = (".pth", ".pt")


def _fractions(_context: click.Context, _option: click.Parameter, value: str) -> tuple[float, float, float]:
    try:
        train, validation, test = (float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"expected three numbers such as 0.7,0.1,0.2, got {value!r}") from error
    return train, validation, test


def _start(kind: str, reference: Path | None, device: str, image_size: int | None) -> nn.Module:
    if reference is not None:
        return load_sam(kind, reference, device=device, image_size=image_size)
    if kind != "pocket":
        raise CheckpointError(f"--model {kind} needs a checkpoint to start from: give --reference PATH")
    return pocket("reference", device, image_size)


def _some_images(sets: Mapping[str, SampleSet], model: nn.Module, count: int = 16) -> torch.Tensor:
    """Encoder inputs of the first images of each data set."""
    chosen = [samples[index] for samples in sets.values() for index in range(min(count, len(samples)))]
    device = next(model.parameters()).device
    return batch_of([(sample.image, sample.box) for sample in chosen], geometry_of(model).image_size, device)[0]


def _say_roles(roles: Split) -> None:
    for role, images in roles.roles().items():
        if any(len(part) for part in images.values()):
            click.echo(f"{role}: " + ", ".join(f"{len(part)} of {name}" for name, part in images.items()))


def _record(roles: Split, settings: AdaptSettings, done: TrainRecord) -> dict[str, Any]:
    """What a training was told and what came of it, as JSON."""
    return {
        "split_seed": roles.seed,
        "fractions": list(roles.fractions),
        "settings": asdict(settings),
        "losses": done.losses,
        "validations": done.validations,
        "best_step": done.best_step,
        "torch": torch.__version__,
    }


def _say_validation(record: TrainRecord) -> None:
    if record.best_step is None:
        return
    losses = {int(each["step"]): each["loss"] for each in record.validations}
    kept = f"the weights after step {record.best_step} are kept"
    if record.best_step == 0:
        kept = "no step was better, so the weights from before it are kept"
    click.echo(f"validation loss {losses[0]:.4f} -> {losses[record.best_step]:.4f}; {kept}")


def _warn_if_blind(dependence: float) -> None:
    if dependence < BLIND_BELOW:
        click.echo(
            f"warning: the embedding hardly changes with the image ({dependence:.4f} of its deviation): the model "
            "answers with the box alone; start from a trained checkpoint, or lower the learning rate",
            err=True,
        )


@click.command(name="adapt")
@click.option("--data", "data", multiple=True, required=True, metavar="NAME=DIR", help=_DATA_HELP)
@layout_option
@click.option(
    "--model",
    "kind",
    type=click.Choice(list(SHAPES)),
    default="pocket",
    show_default=True,
    help="Which SAM it is; pocket is the small one that is built in.",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar=MODEL_FILE,
    help="Checkpoint to start from, such as sam_vit_b_01ec64.pth.  [default: the built-in model's]",
)
@image_size_option
@click.option(
    "--fractions",
    callback=_fractions,
    default="0.7,0.1,0.2",
    show_default=True,
    metavar="A,B,C",
    help="Shares of the images for training, validation and test.",
)
@click.option("--split-seed", type=Whole(), default=0, show_default=True, help="Seed of that split.")
@training_options(AdaptSettings.steps, AdaptSettings.batch_size, AdaptSettings.learning_rate)
@seed_option("Seed of the order of images and of their augmentation.")
@device_option
@resume_option
@overwrite_option
@click.option("--out", type=FILE, required=True, help="The adapted checkpoint, a .pth file.")
def command(
    kind: str,
    reference: Path | None,
    data: tuple[str, ...],
    layout: str,
    out: Path,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    split_seed: int,
    fractions: tuple[float, float, float],
    image_size: int | None,
    device: str,
    resume: bool,
    overwrite: bool,
) -> None:
    """Fine-tune a checkpoint on your images, as MedSAM was fine-tuned from SAM.

    Trains on the training images only and keeps the weights that are best on
    the validation images, those from before it among them. Which image is which
    is written beside the checkpoint, where every other command with the same
    --data finds it.

    \b
    Example:
      medcore-prune phantoms --out phantoms
      medcore-prune adapt --data own=phantoms --steps 8 --batch-size 4 \\
          --out adapted.pth

    \b
    With SAM ViT-B and your own images:
      medcore-prune adapt --model vit_b --reference sam_vit_b_01ec64.pth \\
          --data kvasir=Kvasir-SEG --out medsam_kvasir.pth --device cuda
    """
    require_device(device)
    if reference == Path(POCKET) and not reference.exists():
        reference = None
    if out.suffix not in _SUFFIXES:
        # said before the training and not after it: torch writes no other names
        raise CheckpointError(f"--out {out}: expected a name that ends in {' or '.join(_SUFFIXES)}")
    state = out.with_suffix(".state.pt")
    # a run that goes on was allowed to write there when it began
    allowed = overwrite or (resume and state.exists())
    check_outputs((reference,), allowed, out, out.with_suffix(".json"), state=state)
    sets = named_folders(parse_named(data), layout)
    roles = after(split(sets, seed=split_seed, fractions=fractions), reference)
    check_split(roles, out, allowed)
    model = _start(kind, reference, device, image_size)
    settings = AdaptSettings(steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    with exclusive(out):
        if not resume:
            state.unlink(missing_ok=True)
        _say_roles(roles)
        record = adapt(model, roles.train, roles.validation, settings, state)
        dependence = image_dependence(model, _some_images(roles.train, model))
        with together():
            roles.save(split_file(out))
            write_json_atomic(
                out.with_suffix(".json"),
                {
                    "model": kind,
                    "reference": str(reference) if reference else "pocket pair, reference",
                    "data": list(data),
                    "image_dependence": dependence,
                    **_record(roles, settings, record),
                },
            )
            save_training_checkpoint(out, model, step=settings.steps)
        state.unlink(missing_ok=True)
    last = record.losses[-100:]
    click.echo(f"mean loss of the last {len(last)} steps: {sum(last) / len(last):.4f}")
    _say_validation(record)
    _warn_if_blind(dependence)
    click.echo(f"written: {out}, {out.with_suffix('.json').name} and {split_file(out).name} beside it")
