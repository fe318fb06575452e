"""`medcore-bench transfer`: the paper's Table 2, the same pipeline on other modalities."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import click

from ..data.splits.split import Split
from ..pruning.level import Level
from ..training.cascade import Cascaded, Stage, cascade
from .evaluating import Evaluator
from .experiment import begin, experiment_options, running
from .main_report import UNPRUNED_RECOVERED
from .methods import choose_methods
from .options import method_option, steps_option
from .records import NO_LEVEL
from .recovering import Item, Maker, recovery_settings, unpruned
from .settings import SUBJECT, Settings
from .transfer_report import MODES, render

NAME = "transfer"
SETS = ("phantom_polyp_a", "phantom_ultrasound", "phantom_skin")
LEVELS = tuple(map(Level.parse, ("h50_m70", "h70_m70", "h70_m95", "h80_m95")))


@dataclass(frozen=True)
class Work:
    """What `transfer` makes, from the options.

    Attributes:
        maker: Makes and evaluates.
        method: Whose scores choose what goes.
        fingerprint: Of that method's code and settings.
        levels: What is asked to go.
        own_plans: Whether each modality gets a plan of its own too.
    """

    maker: Maker
    method: str
    fingerprint: str
    levels: Sequence[Level]
    own_plans: bool

    def items(self) -> list[Item]:
        """All models: the unpruned one recovered on each modality, then level by level."""
        names = list(self.maker.inputs.sets)
        found = [self._unpruned(name) for name in names]
        for level in self.levels:
            found += self._of_level(level, names)
        return found

    def _split(self, name: str) -> Split:
        """The images of one modality, by role."""
        roles = self.maker.inputs.roles
        train, validation, test = ({name: part[name]} for part in (roles.train, roles.validation, roles.test))
        return Split(train, validation, test, roles.seed, roles.fractions)

    def _recovered(self, start: Cascaded, name: str) -> Cascaded:
        """Fine-tune what was cut on one modality alone."""
        adapted = self.maker.inputs.adapted
        model, history = self.maker.recoveries.recover(start.model, adapted, self._split(name), self.maker.recovery)
        stage = Stage("recovery", start.plan, history, history.seconds)
        return replace(start, model=model, stages=(*start.stages, stage))

    def _unpruned(self, name: str) -> Item:
        def make() -> Cascaded:
            return self._recovered(unpruned(copy.deepcopy(self.maker.inputs.adapted)), name)

        recovery = self.maker.recovery
        recipe = {"recovery": asdict(recovery)}
        return Item("any", UNPRUNED_RECOVERED, NO_LEVEL, make, recipe, recovery.steps, 1, (name,))

    def _cut(self, level: Level, data: Split) -> Cascaded:
        maker = self.maker
        return cascade(
            maker.inputs.adapted,
            level,
            criterion=self.method,
            reference=maker.inputs.reference,
            data=data,
            schedule="one-shot",
            recovery=None,
            samples=maker.settings.counts.calibration,
            cache_dir=maker.settings.calibration_folder,
        )

    def _of_level(self, level: Level, names: Sequence[str]) -> Iterator[Item]:
        steps = self.maker.recovery.steps

        @cache
        def joint() -> Cascaded:
            return self._cut(level, self.maker.inputs.roles)

        yield self._item("joint_cut", level, joint, ())
        for name in names:
            yield self._item("joint", level, lambda name=name: self._recovered(joint(), name), (name,), steps)
        for name in names if self.own_plans else ():

            def own(name: str = name) -> Cascaded:
                return self._recovered(self._cut(level, self._split(name)), name)

            yield self._item("own", level, own, (name,), steps)

    def _item(self, mode: str, level: Level, make: Any, datasets: tuple[str, ...], steps: int = 0) -> Item:
        recipe = {"method": self.fingerprint, "recovery": asdict(self.maker.recovery) if steps else None}
        return Item(mode, self.method, str(level), make, recipe, steps, int(bool(steps)), datasets)


@click.command(name=NAME)
@experiment_options(
    NAME,
    levels=LEVELS,
    default_data="drawn polyp, ultrasound and skin images",
    phantom_sets=SETS,
    subject=SUBJECT,
    gallery=False,
)
@method_option
@steps_option
@click.option(
    "--own-plans/--no-own-plans",
    default=True,
    show_default=True,
    help="Plan for each modality by itself as well.",
)
def command(settings: Settings, method: str, steps: int | None, own_plans: bool) -> None:
    """Compress for several modalities with one plan a level, calibrated over all, recovered on each.

    Beside it, a plan for each modality by itself: what sharing a plan costs. On
    drawn polyp, ultrasound and skin images by default.

    \b
    Example:
      medcore-bench transfer --quick --levels h50_m70
    """
    settings = replace(settings, methods=(method,), subject=method)
    recovery = recovery_settings(settings, steps)
    with running(settings):
        methods = choose_methods(settings)
        identity = {"recovery": asdict(recovery)}
        inputs, store = begin(settings, NAME, methods=methods, modes=MODES, identity=identity)
        evaluator = Evaluator(inputs, settings, store, experiment=NAME)
        maker = Maker(inputs, settings, store, evaluator, recovery)
        items = Work(maker, method, methods[0].fingerprint, settings.levels, own_plans).items()
        maker.announce(items, inputs.roles)
        evaluator.run_unpruned()
        maker.run(items)
        render(store)
