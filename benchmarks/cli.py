"""`medcore-bench`: one command an experiment."""

import click

from ..commands.group import LazyGroup, Listed, run

COMMANDS = {
    "baselines": Listed(
        f"{__package__}.experiments.baselines",
        "Compare pruning methods on the same groups, levels, images and seeds, with no recovery",
    ),
    "main": Listed(
        f"{__package__}.experiments.main",
        "Compress with recovery, one-time and sequential, and measure contours, size, latency and memory",
    ),
    "transfer": Listed(
        f"{__package__}.experiments.transfer",
        "Compress for several modalities with one plan a level, calibrated over all, recovered on each",
    ),
    "ablation": Listed(
        f"{__package__}.experiments.ablation",
        "Take MedCore apart: without the boundary Fisher, the reset, or the variance over data sets",
    ),
    "leverage": Listed(
        f"{__package__}.experiments.leverage.command",
        "Measure how far compression steps move the contour for what they save: heads against MLP",
    ),
    "landscape": Listed(
        f"{__package__}.experiments.landscape",
        "Map Boundary F1 over the share of heads and of MLP neurons that go, without recovery",
    ),
    "automatic": Listed(
        f"{__package__}.experiments.automatic",
        "Compare the automatic split of heads and MLP with the paper's levels, at equal parameters and FLOPs",
    ),
    "plan": Listed(
        f"{__package__}.experiments.levels",
        "Show what each level removes from an encoder, and what parameters and FLOPs are left",
    ),
    "list": Listed(
        f"{__package__}.report.listing",
        "List methods (recipes that `baselines` compares) and criteria (scores that recipes are built from)",
    ),
    "report": Listed(
        f"{__package__}.report.comparison",
        "Render the results in DIR again: tables, figures, report.html",
    ),
    "claims": Listed(
        f"{__package__}.experiments.claims",
        "Hold the paper's claims against the results of the experiments that have run",
    ),
    "tune": Listed(
        f"{__package__}.studies.tune",
        "Settle the open settings on phantom validation images, as many trials for every method",
    ),
    "correction-study": Listed(
        f"{__package__}.studies.correction",
        "Try the training-free correction in every variant, on validation images",
    ),
    "recovery-study": Listed(
        f"{__package__}.studies.recovery",
        "Settle learning rate and weights of the recovery loss on phantom validation images",
    ),
}
"""The commands: experiments, then what reads their results, then the studies that settled the defaults."""


@click.group(cls=LazyGroup, listed=COMMANDS)
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
