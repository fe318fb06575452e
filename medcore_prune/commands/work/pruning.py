"""What `medcore-prune prune` does, step by step: calibrate, plan, cut, prove, correct, recover, write."""

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import click
import torch
from torch import nn

from ..._support.errors import SurgeryError
from ..._support.progress import track
from ..._support.registry import BUILT_IN, failures_named
from ...data.samples import SampleSet, subset_hash
from ...data.splits.split import Split
from ...models.families import geometry_of
from ...models.fingerprint import model_hash
from ...models.protocol import batch_of
from ...pruning.budget import SEARCHED
from ...pruning.cost import Cost, count
from ...pruning.plan import Plan
from ...pruning.surgery import lineage_of, prune, verify
from ...scoring.recipes import baseline_info
from .inputs import data_record
from .outputs.said import detail
from .planning import PruneSettings, plan_of, require_reference, statistics_of

LARGEST_DIFFERENCE = 1e-4
"""Relative difference of masked and physically pruned outputs above which nothing is written; rounding is 1e-6."""

_COMPARED = 4
"""Images that masked and physical removal are compared on."""


@dataclass(frozen=True)
class Pruned:
    """What came of it: the small model, and what was cut, in the indices of the model that it was cut from.

    `before` and `after` are costs of the encoder; `difference` is the largest relative one of masked and physical
    outputs over the compared images; `record` is all that is worth keeping, as JSON.
    """

    model: nn.Module
    plan: Plan
    before: Cost
    after: Cost
    difference: float
    record: dict[str, Any]


def run_pruning(model: nn.Module, reference: nn.Module | None, roles: Split, settings: PruneSettings) -> Pruned:
    """Prune a model on the training images of a split; the test images are not looked at."""
    require_reference(reference, settings.recipe)
    drawn = roles.calibration(settings.calibration, settings.seed, geometry_of(model).frame)
    statistics = statistics_of(model, reference, roles, settings)
    # what fails in a built-in method is a fault of the program
    own = baseline_info(settings.method).origin != BUILT_IN
    with failures_named(settings.method) if own else nullcontext():
        plan = plan_of(model, reference, roles, statistics, settings)
    difference = compare(model, plan, drawn, _COMPARED)
    small = prune(model, plan)
    before, after = count(model), count(small)
    correction = _correct(small, model, roles, settings)
    record = {
        "adapted": {"sha256": model_hash(model), "image_size": geometry_of(model).image_size},
        "reference": None if reference is None else {"sha256": model_hash(reference)},
        "data": data_record(roles),
        "calibration": {name: {"images": len(part), "sha256": subset_hash(part)} for name, part in drawn.items()},
        "method": settings.method,
        "level": plan.level,
        "target": None if settings.target is None else str(settings.target),
        "seed": settings.seed,
        "plan": plan.hash,
        "cost": cost_record(before, after),
        "masked_vs_removed": {
            "images": min(_COMPARED, sum(map(len, drawn.values()))),
            "largest_relative_difference": difference,
        },
        "searched": plan.notes.get(SEARCHED),
        "latency": _timed(model, small, plan, settings),
        "corrected": correction,
        "recovered": None,
        "torch": torch.__version__,
    }
    return Pruned(small, plan, before, after, difference, record)


@torch.no_grad()
def compare(model: nn.Module, plan: Plan, sets: Mapping[str, SampleSet], most: int) -> float:
    """Prove on images, taken in turn from each set, that removing heads and neurons gives what zeroing them gives.

    Returns the largest absolute difference of encoder outputs, relative to the largest output of its image. More than
    `LARGEST_DIFFERENCE` is refused: something is wrong, and nothing should be written.
    """
    frame, device = geometry_of(model).frame, next(model.parameters()).device
    turns = range(max((len(samples) for samples in sets.values()), default=0))
    chosen = [samples[turn] for turn in turns for samples in sets.values() if turn < len(samples)][:most]
    worst = 0.0
    for sample in track(chosen, "comparing masked and removed", total=len(chosen)):
        worst = max(worst, verify(model, plan, batch_of([(sample.image, sample.box)], frame, device)[0]))
    if not worst <= LARGEST_DIFFERENCE:
        raise SurgeryError(
            f"the pruned model's outputs differ from the masked model's by {worst:.1e} of the largest, expected at "
            f"most {LARGEST_DIFFERENCE:.0e}: nothing was written; please report this with the model's shape"
        )
    return worst


def _correct(small: nn.Module, teacher: nn.Module, roles: Split, settings: PruneSettings) -> dict[str, Any] | None:
    if not settings.correct:
        return None
    from ...correction.correct import correct

    report = correct(small, teacher, roles, samples=settings.correct, seed=settings.seed, fit_steps=settings.fit_steps)
    layers = report.layers
    return {
        "images": dict(report.images),
        "settings": dataclasses.asdict(report.settings),
        "mean_residual_before": sum(layer.residual_before for layer in layers) / len(layers),
        "mean_residual_after": sum(layer.residual_after for layer in layers) / len(layers),
        "blocks": [dataclasses.asdict(block) for block in report.blocks],
        "stream_error": report.stream_error,
        "seconds": round(report.seconds, 3),
    }


def _timed(model: nn.Module, small: nn.Module, plan: Plan, settings: PruneSettings) -> dict[str, float] | None:
    """Hold what a plan for a target in latency was expected to save against what it saves."""
    if settings.target is None or settings.target.unit != "latency":
        return None
    from ...pruning.block_times import block_times

    times = block_times(model, cache_dir=settings.cache)
    checked = times.check(model, small, plan)
    if not checked.holds and times.path is not None:
        times.path.unlink(missing_ok=True)
        click.echo(
            f"note: block times are {abs(checked.error):.0%} off for the whole encoder, as when other work runs: they "
            "are measured anew the next time",
            err=True,
        )
    return checked.to_dict()


def cost_record(before: Cost, after: Cost) -> dict[str, Any]:
    """Parameters and FLOPs of the encoder, as the paper counts them, as JSON."""
    return {
        "params_before": before.params,
        "params_after": after.params,
        "params_removed": after.params_removed(before),
        "flops_before": before.flops,
        "flops_after": after.flops,
        "flops_removed": after.flops_removed(before),
        "convention": before.convention,
    }


def history_of(model: nn.Module, record: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance of a model that was cut: this cut, and those before it where there were any."""
    earlier = lineage_of(model).provenance.get("before")
    mine = {name: value for name, value in lineage_of(model).provenance.items() if name != "before"}
    before = [*(earlier or []), mine] if mine else []
    return {**record, **({"before": before} if before else {})}


def say(done: Pruned, settings: PruneSettings) -> None:
    """Print what was cut, beside what was asked for, and what is left."""
    plan, before, after = done.plan, done.before, done.after
    heads, neurons = (plan.effective_fraction(family) for family in ("heads", "neurons"))
    click.echo(f"level {plan.level}: {heads:.1%} of the heads and {neurons:.1%} of the MLP neurons are gone")
    if not heads and not neurons:
        click.echo("note: nothing is cut: all heads and neurons stay", err=True)
    if settings.uniform and settings.level is not None:
        asked, block = settings.level, plan.blocks[0]
        click.echo(
            f"rounded from {asked}: every block keeps {len(block.keep_heads)} of {block.heads} heads and "
            f"{len(block.keep_neurons)} of {block.neurons} neurons"
        )
    for family in plan.notes.get("saturated", ()):
        click.echo(f"note: the {family} are saturated: every block that may be pruned is at its minimum")
    if searched := done.record["searched"]:
        start, end = (searched["fitness"][place] for place in (0, -1))
        detail(
            f"budget searched: {searched['states']} states, divergence from the whole model {start:.4g} -> {end:.4g}"
        )
    click.echo(
        f"size: {before.params_m:.2f}M parameters -> {after.params_m:.2f}M ({after.params_removed(before):.1%} off), "
        "image encoder"
    )
    detail(f"FLOPs {before.flops_g:.2f}G -> {after.flops_g:.2f}G ({after.flops_removed(before):.1%} off), encoder")
    detail(
        f"masked = removed on {done.record['masked_vs_removed']['images']} images: largest relative difference "
        f"{done.difference:.1e}"
    )
    if corrected := done.record["corrected"]:
        detail(
            f"corrected on {sum(corrected['images'].values())} images: mean relative residual of the layers "
            f"{corrected['mean_residual_before']:.3f} -> {corrected['mean_residual_after']:.3f}"
        )
        if fitted := block_fits(corrected):
            detail(fitted)


def time_text(whole_ms: float, small_ms: float, where: str) -> str:
    """Say what the encoder takes for an image before and after, as measured somewhere."""
    change = small_ms / whole_ms - 1
    return (
        f"time: {whole_ms:.1f} ms -> {small_ms:.1f} ms an image ({abs(change):.1%} {'more' if change > 0 else 'off'}), "
        f"image encoder, measured on this machine, {where}"
    )


def target_text(timed: Mapping[str, float]) -> str:
    """Say what the encoder took before and after, and what the plan for a target in time expected."""
    return (
        f"time: {timed['whole_ms']:.1f} ms -> {timed['small_ms']:.1f} ms an image ({timed['removed']:.1%} off, "
        f"{timed['predicted']:.1%} expected), image encoder, measured on the machine that pruned"
    )


def block_fits(corrected: Mapping[str, Any]) -> str:
    """Say what the fit of whole blocks gave, from the record of a correction; nothing where there was none."""
    blocks = corrected["blocks"]
    if not blocks:
        return ""
    before, after = (sum(block[f"held_out_{when}"] for block in blocks) / len(blocks) for when in ("before", "after"))
    changed = sum(block["step"] > 0 for block in blocks)
    return (
        f"{changed} of {len(blocks)} blocks fitted by {corrected['settings']['fit_steps']} steps, mean relative error "
        f"of the stream on images held out {before:.4f} -> {after:.4f}"
    )
