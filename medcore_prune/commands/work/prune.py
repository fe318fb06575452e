"""What `medcore-prune prune` does: check, prune by the steps in `pruning`, write the model and its report."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from torch import nn

from ..._support.errors import BudgetError
from ..._support.files import exclusive, require_writable, together, write_json_atomic, write_text_atomic
from ..._support.machines.executor import machines
from ..._support.registry import load_plugin
from ...checkpoints.pruned import save
from ...correction.search.settings import GENERATIONS
from ...data.folders.reading import Reading
from ...data.splits.beside import split_file
from ...data.splits.split import Split
from ...models.precision import Precision
from ...pruning.cost import Cost
from ...pruning.level import Level
from ...pruning.regular import regular_level
from ...pruning.target import Target
from .inputs import (
    PHANTOM_COUNTS,
    ImageOptions,
    check_outputs,
    check_split,
    data_record,
    named_model,
    read_pair,
    require_own_images,
    require_suffix,
    say_notice,
)
from .memory import images_at_a_time
from .outputs.judged import Judged, judge
from .outputs.measured import machine, milliseconds
from .outputs.price import Price
from .planning import PruneSettings
from .precision import in_precision
from .pruning import Pruned, block_fits, history_of, run_pruning, say, target_text, time_text
from .table import Table, blocks_table


def report_text(done: Pruned, name: str, judged: Judged | None = None, price: Price | None = None) -> str:
    """Write what was cut, what is left, how good it is and the proof, as Markdown, for the file of that name."""
    record = done.record
    proof = record["masked_vs_removed"]
    lines = [
        f"# {name}",
        "",
        f"Level {done.plan.level} by {record['method']}, {record['target'] or 'as asked'}; heads and neurons are gone "
        "physically.",
        "",
        _totals(done.before, done.after).markdown(),
        "",
        *([judged.table().markdown(), ""] if judged else []),
        *([f"Price of `--uniform`: {price.text()}.", ""] if price else []),
        f"Masked and physically pruned encoder outputs differ by at most {proof['largest_relative_difference']:.1e} of "
        f"the largest output, over {proof['images']} calibration images.",
        "",
        *([f"Encoder: {target_text(timed)}.", ""] if (timed := record["latency"]) else []),
        f"Budget: {_budget(record['searched'])}.",
        "",
        f"Training-free correction: {_correction(record['corrected'])}.",
        "",
        _calibration(record["calibration"]).markdown(),
        "",
        "## Blocks",
        "",
        blocks_table(done.plan, done.after).markdown(),
        "",
    ]
    return "\n".join(lines)


def _budget(searched: dict[str, Any] | None) -> str:
    if searched is None:
        return "by rule"
    start, end = (searched["fitness"][place] for place in (0, -1))
    return (
        f"searched by seed {searched['seed']}, {searched['states']} states on {searched['images']} images, divergence "
        f"from the whole model's masks {start:.4g} to {end:.4g}"
    )


def _correction(corrected: dict[str, Any] | None) -> str:
    if corrected is None:
        return "none"
    residuals = " to ".join(f"{corrected[f'mean_residual_{when}']:.3f}" for when in ("before", "after"))
    images = f"on {sum(corrected['images'].values())} images, mean relative residual of the layers {residuals}"
    fitted = block_fits(corrected)
    return f"{images}; then {fitted}" if fitted else images


def _totals(before: Cost, after: Cost) -> Table:
    rows = [
        ("parameters, M", f"{before.params_m:.3f}", f"{after.params_m:.3f}", f"{after.params_removed(before):.1%}"),
        ("FLOPs, G", f"{before.flops_g:.3f}", f"{after.flops_g:.3f}", f"{after.flops_removed(before):.1%}"),
    ]
    return Table(("image encoder", "before", "after", "off"), rows)


def _calibration(sets: dict[str, dict[str, object]]) -> Table:
    rows = [(name, str(of["images"]), str(of["sha256"])[:16]) for name, of in sets.items()]
    return Table(("calibration images", "count", "SHA-256"), rows)


_BEFORE, _AFTER, _PLAIN = "before", "after", "after, not regular"
_UNMEASURED = "not measured; cut once more without it, and give both files to medcore-prune evaluate, one as --against"
_JUDGED = 16
"""Validation images of each set that both models are judged on."""
_MOST_IMAGES = 8
_DEFAULT_LEVEL = Level.parse("h50_m70")
_CORRECTION_SAMPLES = 64


@in_precision("fp32", "tf32")
def run(
    model: str | None,
    reference: str | None,
    data: tuple[str, ...],
    split_seed: int,
    reading: Reading,
    image_size: int | None,
    device: str,
    precision: Precision,
    level: Level | None,
    target: Target | None,
    plugin: tuple[str, ...],
    method: str | None,
    search: bool,
    correct: bool,
    overwrite: bool,
    plan_out: Path | None,
    out: Path,
    ray: str | None = None,
    **given: Any,
) -> None:
    """Check everything, prune, and write the model with its report and split together."""
    require_writable(given["cache"])
    require_suffix(out, ".safetensors")
    images = ImageOptions(data, split_seed, reading)
    model = named_model(model, images, "prune")
    read = (model, reference, *plugin, *images.files())
    results = check_outputs(read, overwrite, out, plan_out, *_reports(out))
    for each in plugin:
        load_plugin(each)
    settings = PruneSettings(
        level=None if target else level or _DEFAULT_LEVEL,
        target=target,
        method=method or ("residual" if search else "medcore"),
        search=GENERATIONS if search else 0,
        correct=_CORRECTION_SAMPLES if correct else 0,
        **given,
    )
    whole, base = read_pair(model, reference, device, image_size)
    require_own_images([whole], images)
    roles = images.roles(model, PHANTOM_COUNTS)
    if not images.is_phantom:
        check_split(roles, out, overwrite)
    if settings.uniform and settings.level is not None:
        # what has no regular shapes is refused before the work
        regular_level(whole, settings.level, settings.multiple_of)
    with exclusive(out):
        told: dict[str, Any] = {"image_size": image_size, "device": device, "precision": precision}
        told["settings"] = asdict(settings) | {"cache": None}
        if results.done(command="prune", read=read, images=data_record(roles), **told):
            return
        with machines(ray, device):
            plain = _plain(whole, base, roles, settings)
            done = run_pruning(whole, base, roles, settings)
        files = {"adapted": Path(model).name, "reference": reference and Path(reference).name}
        models = {_BEFORE: whole, _AFTER: done.model}
        compared = models if plain is None else {**models, _PLAIN: plain.model}
        judged = judge(compared, roles.validation, images_at_a_time(whole, _MOST_IMAGES), _JUDGED)
        validation = None if judged is None else judged.record()
        found: dict[str, Any] = {"precision": precision, "files": files, "validation": validation}
        price = None
        if plain is not None and judged is not None:
            gain = judged.gain(_AFTER, _PLAIN)
            price = Price(gain, judged.what, plain.after.params_removed(plain.before))
            found["price_of_uniform"] = asdict(price)
        record = history_of(whole, {**done.record, **found})
        with results.writing(), together():
            if plan_out is not None:
                done.plan.save(plan_out)
            if not images.is_phantom:
                roles.save(split_file(out))
            _write(done, record, judged, price, out)
    say(done, settings)
    _say_time(done, models)
    _say_judged(judged, model, out, images)
    if settings.uniform:
        click.echo(f"price of --uniform: {price.text() if price else _UNMEASURED}")
    say_notice(images)
    click.echo(f"written: {out}, {out.with_suffix('.report.md').name} and .report.json beside it")


def _plain(whole: nn.Module, reference: nn.Module | None, roles: Split, settings: PruneSettings) -> Pruned | None:
    """Make the same cut without regular shapes, where validation images hold the one against the other."""
    if not settings.uniform or not any(map(len, roles.validation.values())):
        return None
    click.echo("price of --uniform: first the same cut is made without it, to be judged on the same images", err=True)
    try:
        return run_pruning(whole, reference, roles, replace(settings, uniform=False, multiple_of=1))
    # what quotas of unequal blocks cannot meet, equal ones may
    except BudgetError as error:
        click.echo(f"note: without --uniform the cut cannot be made: {error}", err=True)
        return None


def _say_time(done: Pruned, models: Mapping[str, nn.Module]) -> None:
    """Say what an image takes before and after; not kept, for what a machine takes is no property of the file."""
    if timed := done.record["latency"]:
        click.echo(target_text(timed))
    else:
        times = milliseconds(models)
        click.echo(time_text(times[_BEFORE], times[_AFTER], machine(models[_BEFORE])))


def _reports(out: Path) -> tuple[Path, Path]:
    return out.with_suffix(".report.json"), out.with_suffix(".report.md")


def _say_judged(judged: Judged | None, model: str, out: Path, images: ImageOptions) -> None:
    """Say what the cut did to masks of images that it has not seen, or how to find out."""
    read = "".join(f" --data {each}" for each in images.data)
    more = f"medcore-prune evaluate {out} --against {model}{read}"
    if judged is None:
        click.echo(f"BF1 is not measured, for the split has no validation images; on test images: {more}")
        return
    before, after = (judged.means[name] for name in (_BEFORE, _AFTER))
    click.echo(
        f"contour: BF1 {before['bf1']:.4f} -> {after['bf1']:.4f}, Dice {before['dice']:.4f} -> {after['dice']:.4f}, on "
        f"{judged.what}"
    )
    for note in judged.notes:
        click.echo(f"{note}.")
    if below := judged.below(_AFTER):
        do = "nor was it before the cut: train it longer first" if judged.below(_BEFORE) else "cut less, or recover it"
        click.echo(f"no better than answers without a model ({below}); {do}")
    if judged.images != judged.of:
        click.echo(f"on all of them: {more} --role validation")


def _write(done: Pruned, record: Mapping[str, Any], judged: Judged | None, price: Price | None, out: Path) -> None:
    as_json, as_text = _reports(out)
    write_json_atomic(as_json, record)
    write_text_atomic(as_text, report_text(done, out.name, judged, price))
    save(done.model, out, provenance=record)
