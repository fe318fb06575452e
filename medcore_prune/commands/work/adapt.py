"""What `medcore-prune adapt` does: split the images, train on them, and write a checkpoint with its record."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from ..._support.files import exclusive, require_writable, together, write_json_atomic
from ..._support.machines.ranks import ranks
from ...checkpoints.sam import save_training_checkpoint
from ...data.folders.reading import Reading
from ...data.samples import SampleSet
from ...data.splits.beside import after, split_file
from ...data.splits.split import Split, split
from ...evaluation.estimates import Estimate
from ...models.families import geometry_of
from ...models.precision import Precision
from ...models.protocol import batch_of
from ...training.adapt import BLIND_BELOW, adapt, image_dependence
from ...training.estimate import recovery_estimate
from ...training.follow import TensorBoardLog
from ...training.pool import most_objects
from ...training.record import TrainRecord
from ...training.settings import AdaptSettings, RecoverySettings, deciding
from ...zoo import is_word
from .inputs import (
    POCKET,
    ImageOptions,
    check_outputs,
    check_split,
    data_record,
    model_kind,
    named_model,
    read_model,
    require_suffix,
)
from .memory import fit
from .outputs.judged import Judged, judge
from .outputs.said import detail
from .precision import training_in_precision


def _some_images(sets: Mapping[str, SampleSet], model: nn.Module, count: int = 16) -> torch.Tensor:
    """Encoder inputs of the first images of each data set."""
    chosen = [samples[index] for samples in sets.values() for index in range(min(count, len(samples)))]
    device = next(model.parameters()).device
    return batch_of([(sample.image, sample.box) for sample in chosen], geometry_of(model).frame, device)[0]


def _at_a_time(model: nn.Module, roles: Split, settings: AdaptSettings) -> int:
    """Images of a step that go through the model together; what a recovery of it takes is more than adapting does."""
    training, validation = (sum(map(len, sets.values())) for sets in (roles.train, roles.validation))
    likewise = RecoverySettings(
        steps=settings.steps,
        batch_size=settings.batch_size,
        validate_every=settings.validate_every,
        accumulate=settings.accumulate,
    )

    objects = most_objects(roles.train.values())

    def estimate(count: int) -> Estimate:
        found = recovery_estimate(
            model, model, likewise, images=training, validation_images=validation, objects=objects, at_a_time=count
        )
        return replace(found, work="adaptation")

    return fit(estimate, settings.batch_size // settings.accumulate, [model], trained=True)


def _say_roles(roles: Split) -> None:
    for role, images in roles.roles().items():
        if any(len(part) for part in images.values()):
            click.echo(f"{role}: " + ", ".join(f"{len(part)} of {name}" for name, part in images.items()))


def _warn_of_one_group(roles: Split) -> None:
    """Say where what will be reported on is one video or patient, which tells nothing of others."""
    for name, part in roles.test.items():
        if len(part) and len(set(part.groups)) == 1:
            click.echo(
                f"warning: the {len(part)} test image{'s' * (len(part) > 1)} of {name} are all of one group "
                f"({part.groups[0]}): no report on them can tell one model from another; give a larger share to the "
                "test images (--fractions), or add images of other groups",
                err=True,
            )


def _record(roles: Split, settings: AdaptSettings, done: TrainRecord) -> dict[str, Any]:
    """What a training was told and what came of it, as JSON."""
    return {
        "split_seed": roles.seed,
        "fractions": list(roles.fractions),
        "settings": deciding(asdict(settings)),
        "losses": done.losses,
        "validations": done.validations,
        "best_step": done.best_step,
        "averages": done.averages,
        "torch": torch.__version__,
    }


def _start_of(model: str) -> str:
    """What a training started from, for its record: a file, or a built-in model."""
    return "pocket pair, reference" if model == POCKET and is_word(model) else model


def _say_training(record: TrainRecord) -> None:
    """Say which weights are kept, and losses where details are asked for."""
    last = record.losses[-100:]
    detail(f"mean loss of the last {len(last)} steps: {sum(last) / len(last):.4f}")
    if record.averages:
        return
    if record.best_step is None:
        click.echo("there are no validation images, so the last weights are kept, whether or not earlier were better")
        return
    losses = {int(each["step"]): each["loss"] for each in record.validations}
    detail(f"validation loss {losses[0]:.4f} -> {losses[record.best_step]:.4f}")
    kept = f"the weights after step {record.best_step} of {len(record.losses)}, the best on the validation images,"
    if record.best_step == 0:
        kept = "no step was better on the validation images, so the weights from before it"
    click.echo(f"{kept} are kept")


def _say_judged(judged: Judged | None, name: str) -> None:
    """Show the validation images' figures beside those of the floors, and say what to do where they are no better."""
    if judged is None:
        click.echo("Dice and BF1 are not measured: the split has no validation images (--fractions gives them a share)")
        return
    click.echo(judged.table().text())
    for note in judged.notes:
        click.echo(f"{note}.")
    if below := judged.below(name):
        click.echo(f"no better yet than answers without a model ({below}): train longer (--steps), or on more images")


def _say_average(record: TrainRecord) -> None:
    if not record.averages:
        return
    kept, *others = record.averages
    trained = next(look for look in record.averages if look["share"] == 1)
    click.echo(
        f"average of the start and the last weights: {kept['share']:.0%} trained is the best of "
        f"{len(others) + 1} shares, validation Boundary F1 {kept['bf1']:.4f} (trained alone {trained['bf1']:.4f})"
    )


def _warn_if_blind(dependence: float) -> None:
    if dependence < BLIND_BELOW:
        click.echo(
            f"warning: the embedding hardly changes with the image ({dependence:.4f} of its deviation): the model "
            "answers with the box alone; start from a trained checkpoint, or lower the learning rate",
            err=True,
        )


def _say(record: TrainRecord, dependence: float, judged: Judged | None, out: Path) -> None:
    _say_training(record)
    _say_average(record)
    _warn_if_blind(dependence)
    _say_judged(judged, out.name)
    click.echo(f"written: {out}, {out.with_suffix('.json').name} and {split_file(out).name} beside it")


def _settled(given: Mapping[str, Any], roles: Split) -> dict[str, Any]:
    """Settings as given; an `average` of None is to average where there are validation images."""
    if given.get("average", False) is not None:
        return dict(given)
    return {**given, "average": any(len(part) for part in roles.validation.values())}


@training_in_precision
def run(
    model: str | None,
    data: tuple[str, ...],
    out: Path,
    image_size: int | None,
    fractions: tuple[float, float, float],
    split_seed: int,
    reading: Reading,
    device: str,
    precision: Precision,
    resume: bool,
    overwrite: bool,
    tensorboard: Path | None = None,
    accumulate: int | None = None,
    **given: Any,
) -> None:
    """Check everything, split the images, train, and write checkpoint, split and record together."""
    me = ranks()
    given |= {"precision": precision, "accumulate": accumulate or me.count}
    require_writable(tensorboard)
    on_step = TensorBoardLog(tensorboard) if tensorboard else None
    images = ImageOptions(data, split_seed, reading)
    model = named_model(model, images, "adapt")
    reference = None if is_word(model) else Path(model)
    require_suffix(out, ".pth", ".pt")
    state = out.with_suffix(".state.pt")
    read = (reference, *images.files())
    results = check_outputs(read, overwrite, out, out.with_suffix(".json"), state=state, resume=resume)
    roles = after(split(images.sets(), seed=split_seed, fractions=fractions), reference)
    check_split(roles, out, results.overwrite)
    given = _settled(given, roles)
    settings = AdaptSettings(**given)
    trained = read_model(model, "reference", device=device, image_size=image_size)
    at_a_time = _at_a_time(trained, roles, settings)
    with exclusive(out) if me.first else nullcontext():
        told: dict[str, Any] = {"split": [split_seed, fractions], "settings": deciding(given)}
        told |= {"image_size": image_size, "device": device}
        done = me.first and results.done(
            command="adapt", read=(model, *images.files()), images=data_record(roles), **told
        )
        if me.first and (done or not resume):
            state.unlink(missing_ok=True)
        if me.told(done):
            return
        _say_roles(roles)
        _warn_of_one_group(roles)
        record = adapt(trained, roles.train, roles.validation, settings, state, at_a_time=at_a_time, on_step=on_step)
        if not me.first:
            return
        dependence = image_dependence(trained, _some_images(roles.train, trained))
        # the look that chose the average was at these weights
        known = {out.name: record.averages[0]} if record.averages else None
        judged = judge({out.name: trained}, roles.validation, at_a_time, known=known)
        about = {
            "model": model_kind(trained),
            "reference": _start_of(model),
            "data": list(data),
            "image_dependence": dependence,
            "judged": None if judged is None else judged.record(),
            **_record(roles, settings, record),
        }
        with results.writing(), together():
            roles.save(split_file(out))
            write_json_atomic(out.with_suffix(".json"), about)
            save_training_checkpoint(out, trained, step=settings.steps)
        state.unlink(missing_ok=True)
    _say(record, dependence, judged, out)
