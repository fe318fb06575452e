"""What `medcore-prune recover` does: fine-tune a pruned model towards its teacher, and draw how it went."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from torch import nn

from ..._support.errors import CheckpointError
from ..._support.files import atomic_write, exclusive, require_writable, together, write_text_atomic
from ..._support.machines.ranks import ranks
from ..._support.progress import duration
from ...checkpoints.pruned import save
from ...data.folders.reading import Reading
from ...data.splits.beside import split_file
from ...data.splits.split import Split
from ...evaluation.intervals import NOT_SIGNIFICANT, TOO_FEW_GROUPS, Difference, verdict
from ...models.families import geometry_of
from ...models.fingerprint import model_hash
from ...models.precision import Precision
from ...pruning.surgery import lineage_of
from ...training.estimate import recovery_estimate
from ...training.follow import TensorBoardLog
from ...training.pool import most_objects
from ...training.rate import rated
from ...training.recover import RecoveryHistory, recover
from ...training.settings import RecoverySettings, deciding
from .inputs import (
    PHANTOM_COUNTS,
    POCKET,
    ImageOptions,
    check_outputs,
    check_split,
    data_record,
    model_kind,
    read_model,
    require_own_images,
    require_suffix,
    say_notice,
)
from .memory import fit
from .outputs.judged import judge
from .outputs.said import detail
from .precision import training_in_precision

_AVERAGED = 10  # steps: the loss of one says as much of its few images as of the model


@training_in_precision
def run(
    model: str,
    teacher: str | None,
    data: tuple[str, ...],
    split_seed: int,
    reading: Reading,
    device: str,
    precision: Precision,
    resume: bool,
    overwrite: bool,
    out: Path,
    tensorboard: Path | None = None,
    accumulate: int | None = None,
    **given: Any,
) -> None:
    """Check everything, fine-tune, and write the model with its curves and its history."""
    me = ranks()
    given |= {"precision": precision, "accumulate": accumulate or me.count}
    require_writable(tensorboard)
    on_step = TensorBoardLog(tensorboard) if tensorboard else None
    require_suffix(out, ".safetensors")
    state = out.with_suffix(".state.pt")
    images = ImageOptions(data, split_seed, reading)
    read = (model, teacher, *images.files())
    results = check_outputs(read, overwrite, out, *_curves(out), state=state, resume=resume)
    settings = RecoverySettings(**given)
    small = read_model(model, device=device)
    teacher = teacher or _default_teacher(small, Path(model).name, images)
    whole = read_model(teacher, device=device, image_size=geometry_of(small).image_size)
    settings = rated(settings, small)
    require_own_images((small, whole), images)
    _say_another_teacher(small, whole, Path(model).name)
    start = model_hash(small)
    roles = images.roles(model, PHANTOM_COUNTS)
    if not images.is_phantom:
        check_split(roles, out, results.overwrite)
    train, validation = (sum(map(len, sets.values())) for sets in (roles.train, roles.validation))
    objects = most_objects(roles.train.values())
    at_a_time = fit(
        lambda count: recovery_estimate(
            small, whole, settings, images=train, validation_images=validation, objects=objects, at_a_time=count
        ),
        settings.batch_size // settings.accumulate,
        (small, whole),
        trained=True,
    )
    with exclusive(out) if me.first else nullcontext():
        done = me.first and results.done(
            command="recover", read=read, images=data_record(roles), settings=deciding(given), device=device
        )
        if me.first and (done or not resume):
            state.unlink(missing_ok=True)
        if me.told(done):
            return
        history = recover(small, whole, roles, settings, state_path=state, at_a_time=at_a_time, on_step=on_step)
        if not me.first:
            return
        gain = _gain(model, small, roles, at_a_time) if history.gained else None
        record = _record(start, whole, roles, settings, history, gain)
        provenance = {**lineage_of(small).provenance, "recovered": record}
        with results.writing(), together():
            if not images.is_phantom:
                roles.save(split_file(out))
            write_history(history, out)
            save(small, out, provenance=provenance)
        state.unlink(missing_ok=True)
    _say(history, gain, model, out)
    say_notice(images)
    click.echo(f"written: {out}, and beside it {', '.join(path.name for path in _curves(out))}")


def _default_teacher(model: nn.Module, pruned: str, images: ImageOptions) -> str:
    """Return the built-in model where it is what the file was cut from, or may be; otherwise one must be named."""
    parents = _parents(model)
    side = geometry_of(model).image_size
    if model_kind(model) == POCKET and model_hash(read_model(POCKET, image_size=side)) in parents:
        return POCKET
    if not parents and images.is_phantom:
        return POCKET
    files = lineage_of(model).provenance.get("files")
    name = files.get("adapted") if isinstance(files, Mapping) else None
    known = f"{name or 'another model than the built-in one'}" if parents else "a model that it does not name"
    raise CheckpointError(
        f"{pruned} was cut from {known}: give that as --teacher FILE; --teacher {POCKET} is the built-in phantom model"
    )


def _parents(model: nn.Module) -> set[str]:
    """Hashes of the models that a file was cut from, as far as it knows them."""
    provenance = lineage_of(model).provenance
    earlier = provenance.get("before")
    cuts = [provenance, *(earlier if isinstance(earlier, list) else [])]
    # a library's caller may have kept anything under these names
    entries = [cut.get("adapted") for cut in cuts if isinstance(cut, Mapping)]
    return {str(entry.get("sha256")) for entry in entries if isinstance(entry, Mapping)}


def _say_another_teacher(model: nn.Module, teacher: nn.Module, pruned: str) -> None:
    """Say where the file knows what it was cut from and the teacher is something else; some want that."""
    parents = _parents(model)
    if parents and model_hash(teacher) not in parents:
        click.echo(f"note: {pruned} was not cut from this --teacher, whose weights are others", err=True)


def _gain(model: str, recovered: nn.Module, roles: Split, at_a_time: int) -> Difference | None:
    """Boundary F1 of the recovered model minus that of its input on the validation images, as `evaluate` compares."""
    before = read_model(model, device=str(next(recovered.parameters()).device))
    judged = judge({"before": before, "after": recovered}, roles.validation, at_a_time)
    return None if judged is None else judged.gain("after", "before")


def _record(
    start: str,
    teacher: nn.Module,
    roles: Split,
    settings: RecoverySettings,
    history: RecoveryHistory,
    gain: Difference | None,
) -> dict[str, Any]:
    return {
        "from": start,
        "teacher": model_hash(teacher),
        "data": data_record(roles),
        "settings": deciding(asdict(settings)),
        "steps": len(history.frame),
        "best_step": history.best_step,
        "validation_before": dict(history.start),
        "validation_after": dict(history.best),
        "outcome": history.outcome,
        "gain": None if gain is None else asdict(gain),
        # the whole curve, so that a figure of it can be drawn from the file
        **({"averages": list(map(dict, history.averages))} if history.averages else {}),
        "validations": {name: history.validations[name].tolist() for name in history.validations},
    }


def _say(history: RecoveryHistory, gain: Difference | None, model: str, out: Path) -> None:
    """Say what the validation images say of it, and which file is the better one."""
    losses = history.frame["loss"]
    count = max(1, min(_AVERAGED, len(losses) // 2))
    first, last = losses.iloc[:count].mean(), losses.iloc[-count:].mean()
    detail(f"loss {first:.4f} -> {last:.4f} (means of the first and the last {count} of {len(losses)} steps)")
    click.echo(f"{len(losses)} steps, {duration(history.seconds)}")
    if history.stopped_early:
        click.echo("stopped early: the validation images showed a decline beyond their noise")
    if history.best:
        before, after = history.start, history.best
        click.echo(
            f"validation images: BF1 {before['bf1']:.4f} -> {after['bf1']:.4f}, Dice {before['dice']:.4f} -> "
            f"{after['dice']:.4f}"
        )
    click.echo(_verdict(history, gain, model, out))


def _verdict(history: RecoveryHistory, gain: Difference | None, model: str, out: Path) -> str:
    """Which file is the better one; a rise counts as a gain where it is more than its noise."""
    if history.gained is None:
        return f"not judged: no validation images chose, so {out} holds the last weights, better or not"
    if not history.gained:
        return f"nothing gained: use the input file, {model}; {out} holds the same weights"
    assert gain is not None
    said = verdict(gain.low, gain.high, gain.groups, higher_is_better=True)
    change = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
    if said == "better":
        return (
            f"gained: BF1 {change} (95 % interval) on the validation images, the best of what was looked at: "
            f"{history.outcome}; use {out}"
        )
    few = f"of {gain.groups} groups of images, too few to tell"
    why = {TOO_FEW_GROUPS: few, NOT_SIGNIFICANT: "within its noise"}.get(said, said)
    return (
        f"no gain that is sure: BF1 {change} on the validation images, {why}: {history.outcome} as {out}, and {model} "
        "may be as good"
    )


def _curves(out: Path) -> tuple[Path, ...]:
    """The loss and the validation of a recovery as CSV, and the picture of both, beside its model."""
    return tuple(out.with_suffix(suffix) for suffix in (".loss.csv", ".validation.csv", ".loss.png"))


def write_history(history: RecoveryHistory, out: Path) -> None:
    """Write the loss curve beside a model's file, as CSV and as a picture; each whole or not at all."""
    from matplotlib.figure import Figure

    losses, validations, picture = _curves(out)
    write_text_atomic(losses, history.frame.to_csv(index=False))
    write_text_atomic(validations, history.validations.to_csv(index=False))
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.plot(history.frame["step"], history.frame["loss"], color="#e5532d", linewidth=1.6)
    axis.set_xlabel("step")
    axis.set_ylabel("loss", color="#e5532d")
    axis.set_title("Recovery", loc="left", fontsize=11)
    if len(history.validations):
        other = axis.twinx()
        other.plot(history.validations["step"], history.validations["bf1"], color="#3b7dd8", marker="o", markersize=4)
        other.set_ylabel("validation Boundary F1", color="#3b7dd8")
        if history.best_step is not None:
            kept = history.validations[history.validations["step"] == history.best_step]
            other.plot(kept["step"], kept["bf1"], color="#3b7dd8", marker="o", markersize=11, fillstyle="none")
            axis.set_title("Recovery (ringed: the step that was kept)", loc="left", fontsize=11)
    with atomic_write(picture) as temporary:
        figure.savefig(temporary, dpi=150)
