"""`medcore-bench main`: the paper's Table 1, one-time and sequential compression with recovery."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import click
from torch import nn

from ..correction.correct import correct
from ..data.splits.split import Split
from ..pruning.level import Level
from ..training.cascade import HEAD_RECOVERY_FRACTION, Cascaded, Correct, Stage, cascade, second_pass
from ..training.recover import RecoverySettings
from .evaluating import Evaluator
from .experiment import begin, experiment_options, running
from .main_report import UNPRUNED_RECOVERED, render
from .methods import choose_methods
from .options import LevelList, joined, method_option, steps_option
from .records import NO_LEVEL
from .recovering import Item, Maker, recovery_settings, unpruned
from .settings import SUBJECT, Settings

NAME = "main"
ONE_TIME = tuple(map(Level.parse, ("h40_m30", "h50_m70", "h70_m70", "h70_m95")))
SEQUENTIAL = tuple(map(Level.parse, ("h60_m70", "h72_m84", "h84_m95")))
FIRST = Level.parse("h70_m95")
"""The one-time level that the sequential second pass starts from, recovered."""
MODES = {
    "cut": "one-time, no recovery",
    "corrected": "one-time, corrected, no recovery",
    "one_time": "one-time, recovered",
    "corrected_recovered": "one-time, corrected, recovered with a quarter of the steps",
    "sequential": "sequential, recovered",
}
_SHARE = 4


@dataclass(frozen=True)
class Work:
    """What `main` makes, from the options.

    Attributes:
        maker: Makes and evaluates.
        method: Whose scores choose what goes.
        fingerprint: Of that method's code and settings.
        schedule: `one-shot` or `cascade`, of the recovered models.
        one_time, sequential: Levels.
    """

    maker: Maker
    method: str
    fingerprint: str
    schedule: str
    one_time: Sequence[Level]
    sequential: Sequence[Level]

    def items(self) -> list[Item]:
        """All models, the mildest first."""
        return [self._unpruned(), *self._one_time(), *self._sequential()]

    def _options(self, **more: Any) -> dict[str, Any]:
        settings, inputs = self.maker.settings, self.maker.inputs
        return {
            "criterion": self.method,
            "reference": inputs.reference,
            "data": inputs.roles,
            "samples": settings.counts.calibration,
            "store": self.maker.recoveries,
            "cache_dir": settings.calibration_folder,
            **more,
        }

    def _unpruned(self) -> Item:
        inputs, recovery = self.maker.inputs, self.maker.recovery

        def make() -> Cascaded:
            model, history = self.maker.recoveries.recover(
                copy.deepcopy(inputs.adapted), inputs.adapted, inputs.roles, recovery
            )
            plain = unpruned(model)
            return replace(plain, stages=(Stage("recovery", plain.plan, history, history.seconds),))

        return Item("any", UNPRUNED_RECOVERED, NO_LEVEL, make, {"recovery": asdict(recovery)}, recovery.steps, 1)

    def _corrector(self) -> Correct:
        samples = self.maker.settings.counts.correction

        def apply(model: nn.Module, teacher: nn.Module, data: Split) -> None:
            correct(model, teacher, data, samples=samples, progress=False)

        return apply

    def _one_time(self) -> Iterator[Item]:
        recovery = self.maker.recovery
        quarter = recovery_settings(self.maker.settings, max(1, recovery.steps // _SHARE))
        ways: Mapping[str, tuple[dict[str, Any], int, int]] = {
            "cut": ({"schedule": "one-shot", "recovery": None}, 0, 0),
            "corrected": ({"schedule": "one-shot", "recovery": None, "correct": self._corrector()}, 0, 0),
            "one_time": ({"schedule": self.schedule, "recovery": recovery}, *self._work(recovery)),
            "corrected_recovered": (
                {"schedule": self.schedule, "recovery": quarter, "correct": self._corrector()},
                *self._work(quarter),
            ),
        }
        for level in self.one_time:
            for mode, (options, steps, count) in ways.items():
                yield self._item(mode, level, options, steps, count)

    def _item(self, mode: str, level: Level, options: dict[str, Any], steps: int, count: int) -> Item:
        def make() -> Cascaded:
            return cascade(self.maker.inputs.adapted, level, **self._options(**options))

        return Item(mode, self.method, str(level), make, self._recipe(options), steps, count)

    def _recipe(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What of the options tells one model from another; the correction by what it reads."""
        plain = {name: value for name, value in options.items() if name != "correct"}
        recovery = plain.get("recovery")
        plain["recovery"] = None if recovery is None else asdict(recovery)
        plain["correction"] = self.maker.settings.counts.correction if "correct" in options else 0
        return {**plain, "method": self.fingerprint}

    def _work(self, recovery: RecoverySettings) -> tuple[int, int]:
        """Optimiser steps and recoveries that one pass takes: the cascade recovers after the heads too."""
        short = recovery.shortened(HEAD_RECOVERY_FRACTION).steps if self.schedule == "cascade" else 0
        return recovery.steps + short, 1 + bool(short)

    def _sequential(self) -> Iterator[Item]:
        recovery = self.maker.recovery
        options = {"schedule": self.schedule, "recovery": recovery}

        @cache
        def first() -> Cascaded:
            return cascade(self.maker.inputs.adapted, FIRST, **self._options(**options))

        for level in self.sequential:

            def make(level: Level = level) -> Cascaded:
                return second_pass(first(), level, **self._options(**options))

            recipe = {**self._recipe(options), "first": str(FIRST)}
            # the first recovery is that of the one-time level, which is shared
            yield Item("sequential", self.method, str(level), make, recipe, *self._work(recovery))


@click.command(name=NAME)
@experiment_options(NAME, subject=SUBJECT, gallery=False)
@method_option
@click.option(
    "--one-time",
    type=LevelList(),
    default=joined(ONE_TIME),
    help=f"Levels, each reached in one go.  [default: {joined(ONE_TIME, ', ')}]",
)
@click.option(
    "--sequential",
    type=LevelList(),
    default=joined(SEQUENTIAL),
    help="Levels reached by a second pass over a recovered model, on the blocks that the first left whole.  "
    f"[default: {joined(SEQUENTIAL, ', ')}]",
)
@click.option("--no-sequential", is_flag=True, help="Leave the sequential levels out.")
@click.option(
    "--schedule",
    type=click.Choice(["one-shot", "cascade"]),
    default="cascade",
    show_default=True,
    help="Cut heads and MLP together, or heads first, with a short recovery and new scores in between.",
)
@steps_option
def command(
    settings: Settings,
    method: str,
    one_time: tuple[Level, ...],
    sequential: tuple[Level, ...],
    no_sequential: bool,
    schedule: str,
    steps: int | None,
) -> None:
    """Compress with recovery, one-time and sequential, and measure contours, size, latency and memory.

    Recovery is fine-tuning towards the unpruned model. That model is shown
    after the same recovery too, so that what fine-tuning gains is not credited
    to pruning. On the built-in pair and drawn polyps by default.

    \b
    Example:
      medcore-bench main --quick --one-time h50_m70 --no-sequential
    """
    settings = replace(settings, methods=(method,), subject=method)
    recovery = recovery_settings(settings, steps)
    with running(settings):
        methods = choose_methods(settings)
        identity = {"recovery": asdict(recovery), "schedule": schedule}
        inputs, store = begin(settings, NAME, methods=methods, modes=MODES, identity=identity)
        evaluator = Evaluator(inputs, settings, store, experiment=NAME)
        maker = Maker(inputs, settings, store, evaluator, recovery)
        items = Work(
            maker, method, methods[0].fingerprint, schedule, one_time, () if no_sequential else sequential
        ).items()
        maker.announce(items, inputs.roles)
        evaluator.run_unpruned()
        maker.run(items)
        render(store)
