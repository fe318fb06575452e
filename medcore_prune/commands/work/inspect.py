"""What `medcore-prune inspect` does: sizes, costs and history of a model file, as text, JSON and a picture."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from torch import nn

from ..._support.errors import CheckpointError, MedcorePruneError
from ..._support.files import require_writable
from ...checkpoints.header import is_pruned_file
from ...checkpoints.pruned import load
from ...models.families import can_build, family_of, geometry_of, untrained
from ...models.fingerprint import model_hash
from ...pruning.cost import Cost, count
from ...pruning.plan import Plan
from ...pruning.planning import make_plan
from ...pruning.surgery import Lineage, lineage_of
from .inputs import model_kind, read_model
from .outputs.existing import refuse_existing
from .table import blocks_table, draw_blocks

_WIDTH = 100
_HASH, _HASH_SHOWN = re.compile(r"[0-9a-f]{64}"), 12
_PICTURES = (".png", ".svg", ".pdf")


def run(model: str, convention: str, as_json: bool, overwrite: bool, out: Path | None) -> None:
    """Load a file, which checks it, and say or draw what is inside."""
    if out is not None and out.suffix not in _PICTURES:
        raise MedcorePruneError(f"--out {out}: expected a name that ends in one of {', '.join(_PICTURES)}")
    require_writable(out)
    refuse_existing(overwrite, out)
    # half precision is shown as it is stored
    loaded = load(model) if is_pruned_file(model) else read_model(model)
    lineage, whole = lineage_of(loaded), _unpruned(loaded)
    plan = lineage.plan or make_plan(whole, "h0_m0")
    before, after = count(whole, convention=convention), count(loaded, convention=convention)
    facts = {
        "file": model,
        "kind": model_kind(loaded),
        "image_size": geometry_of(loaded).image_size,
        "precision": str(next(loaded.parameters()).dtype).removeprefix("torch."),
        "sha256 of the model": model_hash(loaded),
        "level": plan.level,
    }
    if as_json:
        click.echo(json.dumps(_record(facts, before, after, plan, lineage), indent=1, sort_keys=True))
    else:
        _say(facts, before, after, plan, lineage)
    if out is not None:
        draw_blocks(plan, f"{Path(model).name}: {plan.level}", out)
        click.echo(f"drawn: {out}", err=as_json)


def _unpruned(model: nn.Module) -> nn.Module:
    """The model that this one was cut from, on the meta device."""
    family = family_of(model)
    if not can_build(family):
        raise CheckpointError(f"models of the family {family.name} are built by their own library: mp.load(into=) does")
    return untrained(lambda: family.build(family.settings(model)), "meta", seed=0)


def _record(facts: Mapping[str, Any], before: Cost, after: Cost, plan: Plan, lineage: Lineage) -> dict[str, Any]:
    cost = {"params": after.params, "params_whole": before.params, "flops": after.flops, "flops_whole": before.flops}
    return {**facts, **cost, "plan": json.loads(plan.to_json()), "provenance": dict(lineage.provenance)}


def _say(facts: Mapping[str, Any], before: Cost, after: Cost, plan: Plan, lineage: Lineage) -> None:
    for name, value in facts.items():
        click.echo(f"{name}: {value}")
    click.echo(f"parameters of the encoder: {after.params_m:.3f}M of {before.params_m:.3f}M")
    click.echo(f"FLOPs of the encoder: {after.flops_g:.3f}G of {before.flops_g:.3f}G ({after.convention})")
    click.echo()
    click.echo(blocks_table(plan, after, bars=True).text())
    if lineage.provenance:
        click.echo("\nwhere it comes from:")
        _say_tree(lineage.provenance, "  ")


def _say_tree(values: Mapping[str, Any], indent: str) -> None:
    for name, value in values.items():
        line = f"{indent}{name}: {_short(value)}"
        if isinstance(value, Mapping) and len(line) > _WIDTH:
            click.echo(f"{indent}{name}:")
            _say_tree(value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
            for number, entry in enumerate(value):
                click.echo(f"{indent}{name} {number}:")
                _say_tree(entry if isinstance(entry, Mapping) else {"": entry}, indent + "  ")
        else:
            click.echo(line)


def _short(value: Any) -> str:
    """A value in a line: hashes and fractions by their first figures, which --json has in full."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and _HASH.fullmatch(value):
        return value[:_HASH_SHOWN]
    return "none" if value is None else str(value)
