"""`medcore-bench`: one command an experiment."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import click

from .._support.registry import load_plugin
from ..commands.group import LazyGroup, Listed, run

COMMANDS = {
    "baselines": Listed(
        f"{__package__}.commands.baselines",
        "Compare pruning methods on the same groups, levels, images and seeds, with no recovery",
    ),
    "main": Listed(
        f"{__package__}.commands.main",
        "Compress with recovery, one-time and sequential, and measure contours, size, latency and memory",
    ),
    "transfer": Listed(
        f"{__package__}.commands.transfer",
        "Compress for several modalities with one plan a level, calibrated over all, recovered on each",
    ),
    "ablation": Listed(
        f"{__package__}.commands.ablation",
        "Take MedCore apart: without the boundary Fisher, the reset, or the variance over data sets",
    ),
    "leverage": Listed(
        f"{__package__}.commands.leverage",
        "Measure how far compression steps move the contour for what they save: heads against MLP",
    ),
    "landscape": Listed(
        f"{__package__}.commands.landscape",
        "Map Boundary F1 over the share of heads and of MLP neurons that go, without recovery",
    ),
    "automatic": Listed(
        f"{__package__}.commands.automatic",
        "Compare the automatic split of heads and MLP with the paper's levels, at equal parameters and FLOPs",
    ),
    "plan": Listed(
        f"{__package__}.commands.plan",
        "Show what each level removes from an encoder, and what parameters and FLOPs are left",
    ),
    "list": Listed(
        f"{__package__}.commands.list",
        "List methods (recipes that `baselines` compares) and criteria (scores that recipes are built from)",
    ),
    "latency": Listed(
        f"{__package__}.commands.latency",
        "Time models under PyTorch and ONNX Runtime, float and int8, unpruned and pruned side by side",
    ),
    "report": Listed(
        f"{__package__}.commands.report",
        "Render the results in DIR again: tables, figures, report.html",
    ),
    "claims": Listed(
        f"{__package__}.commands.claims",
        "Hold the paper's claims against the results of the experiments that have run",
    ),
    "tune": Listed(
        f"{__package__}.commands.studies.tune",
        "Settle the open settings on phantom validation images, as many trials for every method",
    ),
    "correction-study": Listed(
        f"{__package__}.commands.studies.correction_study",
        "Try the training-free correction in every variant, on validation images",
    ),
    "recovery-study": Listed(
        f"{__package__}.commands.studies.recovery_study",
        "Settle how corrected models are recovered, on phantom validation images",
    ),
}
"""The commands: experiments, then what reads their results, then the studies that settled the defaults."""


_GROUP = "medcore_prune.experiments"
_REGISTRY = f"{__package__}.runner.experiment"


def installed() -> dict[str, Listed]:
    """Experiments of other packages, known by what these packages say of themselves; none is imported."""
    found = {}
    for point in entry_points(group=_GROUP):
        owner = point.dist.name if point.dist is not None else point.module
        if point.name not in COMMANDS:
            found[point.name] = Listed(point.module, f"An experiment of {owner}")
    return found


class Bench(LazyGroup):
    """The commands of this package, then experiments that are installed or named with `--plugin`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.installed = installed()
        super().__init__(*args, listed={**COMMANDS, **self.installed}, **kwargs)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a name that is not known may be what a plug-in among its options registers."""
        if args[0] not in self.listed and not ctx.resilient_parsing:
            for plugin in _plugins(args[1:]):
                load_plugin(plugin)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or make that of a registered experiment."""
        if cmd_name in self.listed.keys() - self.installed.keys():
            return super().get_command(ctx, cmd_name)
        experiments = _registered(everything=cmd_name in self.installed)
        return experiments[cmd_name].command() if cmd_name in experiments else None


def _registered(everything: bool) -> Mapping[str, Any]:
    """Experiments by name; where no plug-in can have registered any, what they run on is not imported to see so."""
    if not everything and _REGISTRY not in sys.modules:
        return {}
    experiments = import_module(_REGISTRY).experiments
    return {name: experiments.get(name) for name in experiments.available()}


def _plugins(words: Sequence[str]) -> Iterator[str]:
    """What `--plugin` names in a command's words."""
    for place, word in enumerate(words):
        option, given, value = word.partition("=")
        if option == "--plugin" and (given or words[place + 1 :]):
            yield value if given else words[place + 1]


@click.group(cls=Bench)
@click.version_option(package_name="medcore-prune")
def cli() -> None:
    """Compare pruning criteria on SAM and MedSAM image encoders.

    Every experiment runs without options on a small built-in pair of models and
    drawn images ("phantoms"), and writes a folder of results with one page,
    report.html. `medcore-bench COMMAND --help` says what a command does.
    """


def main() -> None:
    """Run `medcore-bench`."""
    run(cli)


if __name__ == "__main__":
    main()
