"""`medcore-prune prune`: remove heads and neurons, prove it, and write a file that needs nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .._support.devices import require_device
from .._support.errors import CheckpointError
from .._support.files import exclusive, require_writable, together, write_json_atomic, write_text_atomic
from .._support.registry import load_plugin
from ..checkpoints.pruned import save
from ..data.splits.beside import split_file
from ..pruning.cost import Cost
from ..pruning.level import Level
from ..pruning.target import Target
from .inputs import (
    PHANTOM_COUNTS,
    POCKET,
    ImageOptions,
    ModelOptions,
    check_outputs,
    check_split,
    read_pair,
    require_own_images,
    say_notice,
)
from .options import (
    FILE,
    MODEL,
    MODEL_FILE,
    MethodName,
    OneLevel,
    TargetType,
    Whole,
    batch_size_option,
    cache_option,
    data_options,
    device_option,
    kind_options,
    memory_options,
    overwrite_option,
    plugin_option,
    seed_option,
)
from .pruning import Pruned, PruneSettings, history_of, run_pruning, say
from .table import Table, blocks_table


def report_text(done: Pruned, name: str) -> str:
    """Write what was cut, what is left, and the proof, as Markdown.

    Args:
        done: What pruning gave.
        name: Of the model's file.
    """
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
        f"Masked and physically pruned encoder outputs differ by at most {proof['largest_relative_difference']:.1e} of "
        f"the largest output, over {proof['images']} calibration images.",
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


def _correction(corrected: dict[str, Any] | None) -> str:
    if corrected is None:
        return "none"
    residuals = " to ".join(f"{corrected[f'mean_residual_{when}']:.3f}" for when in ("before", "after"))
    return f"on {sum(corrected['images'].values())} images, mean relative residual of the layers {residuals}"


def _totals(before: Cost, after: Cost) -> Table:
    rows = [
        ("parameters, M", f"{before.params_m:.3f}", f"{after.params_m:.3f}", f"{after.params_removed(before):.1%}"),
        ("FLOPs, G", f"{before.flops_g:.3f}", f"{after.flops_g:.3f}", f"{after.flops_removed(before):.1%}"),
    ]
    return Table(("image encoder", "before", "after", "off"), rows)


def _calibration(sets: dict[str, dict[str, object]]) -> Table:
    rows = [(name, str(of["images"]), str(of["sha256"])[:16]) for name, of in sets.items()]
    return Table(("calibration images", "count", "SHA-256"), rows)


_DEFAULT_LEVEL = Level.parse("h50_m70")
_CORRECTION_SAMPLES = 64


@click.command(name="prune")
@click.option(
    "--adapted",
    default=POCKET,
    show_default=True,
    type=MODEL,
    metavar=MODEL_FILE,
    help="The model to prune: what `adapt` wrote, a MedSAM .pth, a pruned file, or the small built-in one.",
)
@click.option(
    "--reference",
    type=MODEL,
    metavar=MODEL_FILE,
    help="The checkpoint that it was fine-tuned from, which most methods read.  [default: the built-in one's, for the "
    "built-in model alone]",
)
@kind_options
@data_options
@click.option(
    "--level",
    type=OneLevel(),
    help="How much goes: h50_m70 is 50 % of the attention heads and 70 % of the MLP neurons.  [default: h50_m70]",
)
@click.option(
    "--target",
    type=TargetType(),
    metavar="KIND=SHARE%",
    help="Instead of --level: params=60% removes 60 % of the encoder's parameters, flops=60% of its FLOPs; heads and "
    "neurons share it out by themselves.",
)
@click.option(
    "--method",
    type=MethodName(),
    default="medcore",
    show_default=True,
    metavar="METHOD",
    help="What decides which go; `medcore-bench list` explains them.",
)
@plugin_option
@click.option("--protect", type=Whole(), metavar="N", help="Deepest blocks left whole.  [default: depth / 6]")
@click.option(
    "--calibration",
    type=Whole(1),
    default=PruneSettings.calibration,
    show_default=True,
    metavar="N",
    help="Training images of each set that scores come from; the paper takes 128.",
)
@click.option("--correct", is_flag=True, help="Refit what is left to the whole model's outputs, without training.")
@click.option(
    "--verify",
    type=Whole(1),
    default=4,
    show_default=True,
    metavar="N",
    help="Images on which removing must give what zeroing gives, or nothing is written.",
)
@seed_option("Seed of which training images scores come from.")
@device_option
@memory_options
@batch_size_option(8)
@cache_option("the user's cache")
@overwrite_option
@click.option("--plan-out", type=FILE, help="Also write which heads and neurons were kept, as JSON.")
@click.option(
    "--out", type=FILE, default=Path("pruned.safetensors"), show_default=True, help="Pruned model, .safetensors."
)
def command(
    adapted: str,
    reference: str | None,
    data: tuple[str, ...],
    boxes: tuple[str, ...],
    layout: str,
    split_seed: int,
    kind: str,
    image_size: int | None,
    device: str,
    attention: str,
    checkpointing: bool,
    level: Level | None,
    target: Target | None,
    plugin: tuple[str, ...],
    correct: bool,
    overwrite: bool,
    plan_out: Path | None,
    out: Path,
    **given: Any,
) -> None:
    """Remove attention heads and MLP neurons from a model, and write what is left as one file.

    Scores every head and neuron on training images of yours (never on test
    images), removes the least important ones physically, and compares the
    outputs with those of the model with the same ones zeroed. The file loads
    with medcore_prune.load, without the checkpoints it came from; a report and
    the split of the images lie beside it.

    \b
    Example:
      medcore-prune prune --level h50_m70 --calibration 4 --out small.safetensors

    \b
    With SAM ViT-B and your own images:
      medcore-prune prune --model vit_b --adapted medsam_vit_b.pth \\
          --reference sam_vit_b_01ec64.pth --data kvasir=Kvasir-SEG \\
          --level h50_m70 --calibration 128 --correct \\
          --out medsam_h50_m70.safetensors
    """
    if level is not None and target is not None:
        raise click.UsageError("--level and --target both say how much goes: give one")
    require_device(device)
    require_writable(given["cache"])
    _check_out(out)
    images = ImageOptions(data, boxes, layout, split_seed)
    check_outputs((adapted, reference, *plugin, *images.files()), overwrite, out, plan_out, *_reports(out))
    for each in plugin:
        load_plugin(each)
    options = ModelOptions(kind, image_size, device, attention, checkpointing)
    require_own_images(options, images)
    settings = PruneSettings(
        level=None if target else level or _DEFAULT_LEVEL,
        target=target,
        correct=_CORRECTION_SAMPLES if correct else 0,
        **given,
    )
    model, base = read_pair(options, adapted, reference)
    roles = images.roles(adapted, PHANTOM_COUNTS)
    if not images.is_phantom:
        check_split(roles, out, overwrite)
    with exclusive(out):
        done = run_pruning(model, base, roles, settings)
        record = history_of(
            model,
            {**done.record, "files": {"adapted": Path(adapted).name, "reference": reference and Path(reference).name}},
        )
        with together():
            if plan_out is not None:
                done.plan.save(plan_out)
            if not images.is_phantom:
                roles.save(split_file(out))
            _write(done, record, out)
    say(done)
    say_notice(images)
    click.echo(f"written: {out}, {out.with_suffix('.report.md').name} and .report.json beside it")


def _reports(out: Path) -> tuple[Path, Path]:
    return out.with_suffix(".report.json"), out.with_suffix(".report.md")


def _write(done: Pruned, record: Mapping[str, Any], out: Path) -> None:
    as_json, as_text = _reports(out)
    write_json_atomic(as_json, record)
    write_text_atomic(as_text, report_text(done, out.name))
    save(done.model, out, provenance=record)


def _check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise CheckpointError(f"--out {out}: expected a name that ends in .safetensors")
