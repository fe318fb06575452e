"""What the command of an experiment says and takes, apart from the experiment, whose imports take seconds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ...commands.group import GONE, Command, loading
from ...commands.options import (
    FOLDER,
    PRECISIONS,
    Setting,
    cache_option,
    data_option,
    device_option,
    plugin_option,
    precision_option,
    resume_option,
)
from ...commands.options import set_option as rarely
from ...commands.values import Finite, GridSize, KeyValue, Whole
from ...pruning.level import Level
from ...training.settings import RecoverySettings
from ..runner.settings import COUNTS, Counts, Settings
from .options import levels_option, pair_options

_EXPERIMENTS = f"{__package__.rpartition('.')[0]}.runner.experiment"


def _by_amount(name: str) -> str:
    default, quick, full = (getattr(COUNTS[amount], name) for amount in ("default", "quick", "full"))
    return f"{default}, {quick} with --quick, {full} with --full"


RARE: Mapping[str, Setting] = {
    "images": Setting(
        Whole(1),
        "images of each set that models are judged on, at most "
        f"(all of --data; {_by_amount('phantom_images')} of drawn ones)",
    ),
    "calibration": Setting(
        Whole(1), f"training images of each set that scores come from ({_by_amount('calibration')})"
    ),
    "correction": Setting(Whole(1), f"those of them that the correction reads ({_by_amount('correction')})"),
    "seeds": Setting(Whole(1), "times that the training images for scores are drawn anew (1)"),
    "split_seed": Setting(Whole(), "of the split, where none lies beside the checkpoint (0)"),
    "role": Setting(click.Choice(["test", "validation"]), "images that models are judged on (test)"),
    "eval_size": Setting(GridSize(), "side of the grid that masks are compared on, or original (256)"),
    "tolerance_px": Setting(Finite(0), "how far apart Boundary F1 lets two contours lie, on a 256 grid (2.0)"),
}
"""What every experiment may `--set`, with its default."""
RECOVERY: Mapping[str, Setting] = {
    "validation": Setting(
        Whole(1),
        "images of each set that choose the weights of a recovery, at most "
        f"(all of --data; {_by_amount('validation')} of drawn ones)",
    ),
    "recovery_batch": Setting(Whole(1), f"images a step of a recovery ({RecoverySettings.batch_size})"),
    "recovery_rate": Setting(
        Finite(0, min_open=True), "its peak learning rate (0.001 for the pocket pair, 0.0001 for others)"
    ),
    "recovery_precision": Setting(click.Choice(PRECISIONS), "fp32, tf32 or bf16 (that of the run)"),
    "recovery_average": Setting(
        click.BOOL, "its last weights averaged with its start, as validation images choose (false)"
    ),
}
"""What an experiment that recovers models may `--set` besides."""
_COUNTED = {"calibration": "calibration", "correction": "correction", "images": "phantom_images"}


class BenchCommand(Command):
    """A command of `medcore-bench`; options of earlier versions are named with what to give instead."""

    @property
    def gone(self) -> Mapping[str, str]:
        """Options of earlier versions, and what to give instead: most can be `--set`."""
        kinds = [option.type for option in self.params if isinstance(option.type, KeyValue)]
        rare = {
            f"--{key.replace('_', '-')}": f"it is rarely given: --set {key}=VALUE"
            for kind in kinds
            for key in kind.known
        }
        sizes = {"--image-size": "the file of a model tells its input side: leave --image-size out"}
        return {**GONE, **sizes, **rare, "--tolerance": "it is rarely given: --set tolerance_px=VALUE"}


@dataclass(frozen=True)
class Words:
    """What an experiment's command says and takes.

    Attributes:
        name: Of the experiment, of its command and of the default folder of its results.
        help: Of the command, as click takes it.
        options: Click's decorators of the options of its own.
        rare: What may be `--set` of its own, key to type and default.
        levels: Default of `--levels`; without any, there is no such option.
        default_data: What `--data` says that it takes by itself.
        fixed: Fields of `Settings` that are no option here.
    """

    name: str
    help: str
    options: Sequence[Callable[[Any], Any]] = ()
    rare: Mapping[str, Setting] = field(default_factory=dict)
    levels: Sequence[Level] = ()
    default_data: str = "three drawn polyp sets"
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def command(self) -> click.Command:
        """Make the command; it runs the experiment that is registered under the name."""

        def run(**given: Any) -> None:
            with loading():
                settings, own = self._settings(given)
                experiment = import_module(_EXPERIMENTS).experiments.get(self.name)
            experiment(settings, **own).run()

        run.__doc__ = self.help
        for option in reversed(self._options()):
            run = option(run)
        return click.command(name=self.name, cls=BenchCommand)(run)

    def _options(self) -> list[Callable[[Any], Any]]:
        option = click.option
        return [
            option(
                "--quick", "amount", flag_value="quick", help="Very few images and samples, to see whether it runs."
            ),
            option("--full", "amount", flag_value="full", help="As many images and samples as a report should show."),
            *pair_options,
            data_option(self.default_data),
            *([levels_option(self.levels)] if self.levels else []),
            *self.options,
            option(
                "--out",
                type=FOLDER,
                default=Path("medcore-results", self.name),
                help="Folder of the results.",
            ),
            device_option,
            precision_option("fp32", "tf32"),
            plugin_option,
            cache_option("calibration/ in --out"),
            resume_option,
            rarely({**RARE, **self.rare}),
        ]

    def _settings(self, given: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
        """Take what every experiment is asked for out of what was given; the rest is its own."""
        rare: dict[str, Any] = given.pop("rare")
        counts = {name: rare.pop(key) for key, name in _COUNTED.items() if key in rare}
        if "phantom_images" in counts:
            counts["real_images"] = counts["phantom_images"]
        own = {**given, **rare}
        one = {"methods": (own["method"],), "subject": own["method"]} if "method" in own else {}
        common = {key: own.pop(key) for key in list(own) if key in Settings.__dataclass_fields__}
        settings = Settings(
            counts=_counts(own.pop("amount") or "default", counts),
            plugins=own.pop("plugin"),
            fresh=not own.pop("resume"),
            **{**one, **self.fixed, **common},
        )
        return settings, own


def _counts(amount: str, given: Mapping[str, int]) -> Counts:
    return replace(COUNTS[amount], **given)


__all__ = ["RARE", "RECOVERY", "BenchCommand", "Setting", "Words", "rarely"]
