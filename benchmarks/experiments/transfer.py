"""`medcore-bench transfer`: the paper's Table 2, the same pipeline on other modalities."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from matplotlib.figure import Figure

from ...data.splits.split import Split
from ...pruning.level import Level
from ...training.cascade import Cascaded, cascade
from ...training.settings import RecoverySettings, deciding
from ..report.page import Page, Picture, Section
from ..report.paper import paper_grid
from ..report.plots.recovery import loss_curves
from ..report.plots.style import OTHER_COLOUR, SUBJECT_COLOUR, Theme, ends_of, panels
from ..report.summary import Row, Summary, summarise
from ..report.tables import BELOW_FLOOR, Grid, estimate, in_blocks, label, metric_cells, size_cells
from ..runner.experiment import Experiment, register_experiment
from ..runner.recover import Item, corrector, records, recovery_settings, unpruned
from ..runner.store import NO_LEVEL, UNPRUNED, ResultStore
from .main import HOLLOW, UNPRUNED_RECOVERED, recoveries

MODES = {
    "joint": "one plan for all modalities, recovered on each",
    "own": "a plan for each modality, recovered on it",
    "joint_corrected": "one plan for all modalities, corrected, no recovery",
    "joint_cut": "one plan for all modalities, no recovery",
}
_METRICS = ("dice", "bf1", "hd95_px")
_LEAD = (
    "One plan a level, calibrated over all modalities together, then recovered and evaluated on each of them. Beside "
    "it a plan of each modality's own. The unpruned model is shown after the same recovery too."
)
_CORRECTED = "What is recovered was corrected before: by a plan's own images, of all modalities or of one."


def table(of_sets: dict[str, Summary]) -> Grid:
    """The paper's Table 2 in its layout, with what is not pruned, and without recovery."""

    def cells(row: Row, title: str = "") -> list[str]:
        name = label(row) if row.level == NO_LEVEL else row.level
        return [name, title, *size_cells(row), *metric_cells(row, _METRICS, ["bf1"])]

    blocks = {name: list(map(cells, summary.unpruned_rows)) for name, summary in of_sets.items()}
    for name, summary in of_sets.items():
        for level in summary.levels:
            blocks[name] += [cells(row, title) for mode, title in MODES.items() for row in summary.of(mode, level)]
    rows, sections = in_blocks(blocks.items())
    notice = next(iter(of_sets.values())).notice
    notes = [
        notice,
        f"{BELOW_FLOOR} worse than a floor, which uses no network. Intervals: 95 %, over groups of images.",
    ]
    columns = ["data set", "level", "plan", "params M", "FLOPs G", "Dice", "BF1", "HD95 px"]
    return Grid("Table 2: one plan, several modalities", columns, rows, notes, sections, left=3)


def shared(of_sets: dict[str, Summary]) -> Grid:
    """Paired differences of BF1 between the shared plan and a modality's own, and from the unpruned model."""

    def cells(summary: Summary, level: str) -> list[str]:
        joint = ("joint", level, summary.subject)
        others = [("own", level, summary.subject), ("any", NO_LEVEL, UNPRUNED), ("any", NO_LEVEL, UNPRUNED_RECOVERED)]
        return [level, *(estimate("bf1", summary.paired(joint, other), True) for other in others)]

    blocks = ((name, [cells(summary, level) for level in summary.levels]) for name, summary in of_sets.items())
    rows, _ = in_blocks(blocks)
    columns = ["data set", "level", "shared − own plan", "shared − unpruned", "shared − unpruned recovered"]
    notice = next(iter(of_sets.values())).notice
    return Grid("Differences of BF1, recovered", columns, rows, [notice, "Paired 95 % intervals."], left=2)


def modalities(of_sets: dict[str, Summary], theme: Theme) -> Figure:
    """Draw BF1 at each level, a panel a modality and a line a mode."""
    figure, (axes,) = panels((3.6 * len(of_sets) + 0.6, 3.6), 1, len(of_sets))
    colours = dict(zip(MODES, (SUBJECT_COLOUR, OTHER_COLOUR, "#4a9d7c", "#8d99a6"), strict=True))
    for axis, (name, summary) in zip(axes, of_sets.items(), strict=True):
        for place, (mode, title) in enumerate(MODES.items()):
            rows = {row.level: row.metrics["bf1"] for row in summary.of_mode(mode)}
            where = [n + 0.08 * (place - 1) for n, level in enumerate(summary.levels) if level in rows]
            values, ends = ends_of([rows[level] for level in summary.levels if level in rows])
            axis.errorbar(where, values, yerr=ends, color=colours[mode], marker="o", elinewidth=0.8, label=title)
        for row in summary.unpruned_rows:
            dashes = {UNPRUNED: (0, (6, 3)), UNPRUNED_RECOVERED: (0, (1, 2))}.get(row.method)
            if dashes is not None:
                axis.axhline(row.metrics["bf1"].value, color=theme.faint, linestyle=dashes, linewidth=1.2)
        axis.set_xticks(range(len(summary.levels)), summary.levels, fontsize=8)
        axis.set_title(name)
    axes[0].set_ylabel("BF1")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=1)
    figure.tight_layout(w_pad=1.6)
    return figure


@register_experiment("transfer")
@dataclass
class Transfer(Experiment):
    """Compress for several modalities with one plan a level, calibrated over all, recovered on each."""

    modes = MODES

    method: str
    steps: int | None
    own_plans: bool
    starts: str = "corrected"
    protect: int | None = None

    def recovery(self) -> RecoverySettings:
        return recovery_settings(self.settings, self.steps)

    def identity(self) -> dict[str, Any]:
        return {"recovery": deciding(asdict(self.recovery())), "starts": self.starts, **self._spared}

    @property
    def _spared(self) -> dict[str, int]:
        """Where it is asked for, how many of the deepest blocks are left whole."""
        return {} if self.protect is None else {"protect": self.protect}

    def items(self) -> list[Item]:
        names = list(self.inputs.sets)
        found = [self._unpruned(name) for name in names]
        for level in self.settings.levels:
            found += self._of_level(level, names)
        return found

    def _split(self, name: str) -> Split:
        """The images of one modality, by role."""
        roles = self.inputs.roles
        train, validation, test = ({name: part[name]} for part in (roles.train, roles.validation, roles.test))
        return Split(train, validation, test, roles.seed, roles.fractions)

    def _recovered(self, start: Cascaded, name: str) -> Cascaded:
        """Fine-tune what was cut on one modality alone."""
        return self.maker.recovered(start, self._split(name))

    def _unpruned(self, name: str) -> Item:
        def make() -> Cascaded:
            return self._recovered(unpruned(copy.deepcopy(self.inputs.adapted)), name)

        recovery = self.recovery()
        recipe = {"recovery": deciding(asdict(recovery))}
        return Item("any", UNPRUNED_RECOVERED, NO_LEVEL, make, recipe, recovery.steps, 1, (name,))

    def _cut(self, level: Level, data: Split, corrected: bool) -> Cascaded:
        correct = corrector(self.settings) if corrected else None
        options = {**self.maker.options, "data": data, "schedule": "one-shot", "recovery": None, **self._spared}
        return cascade(self.inputs.adapted, level, self.method, correct=correct, **options)

    def _of_level(self, level: Level, names: Sequence[str]) -> Iterator[Item]:
        steps, corrected = self.recovery().steps, self.starts == "corrected"

        @cache
        def joint(corrected: bool) -> Cascaded:
            return self._cut(level, self.inputs.roles, corrected)

        yield self._item("joint_cut", level, lambda: joint(False), ())
        if corrected:
            yield self._item("joint_corrected", level, lambda: joint(True), ())
        for name in names:
            yield self._item("joint", level, lambda name=name: self._recovered(joint(corrected), name), (name,), steps)
        for name in names if self.own_plans else ():

            def own(name: str = name) -> Cascaded:
                return self._recovered(self._cut(level, self._split(name), corrected), name)

            yield self._item("own", level, own, (name,), steps)

    def _item(self, mode: str, level: Level, make: Any, datasets: tuple[str, ...], steps: int = 0) -> Item:
        corrected = self.starts == "corrected" and mode != "joint_cut"
        recipe = {
            "method": self.methods[0].fingerprint,
            "recovery": deciding(asdict(self.recovery())) if steps else None,
            "protect": self.protect,
            "correction": self.settings.counts.correction if corrected else 0,
        }
        return Item(mode, self.method, str(level), make, recipe, steps, int(bool(steps)), datasets)

    @staticmethod
    def page(store: ResultStore) -> Page:
        made = records(store)
        of_sets = {name: summarise(store, datasets=[name]) for name in store.run["data"]}
        pictures = {
            "modalities": Picture(
                "BF1 on each modality, with 95 % intervals. Dashed: the unpruned model; dotted: after the same "
                "recovery.",
                lambda theme: modalities(of_sets, theme),
            )
        }
        curves = {
            "losses": Picture(
                f"Loss of each recovery (running mean) and, as dots, BF1 on validation images; {HOLLOW}",
                lambda theme: loss_curves(made, theme),
            )
        }
        sections = [
            Section("Modalities", figures=pictures, grids=[table(of_sets), paper_grid(2)]),
            Section("What a shared plan costs", grids=[shared(of_sets)]),
            Section("Recoveries", figures=curves, grids=[recoveries(made, store)]),
        ]
        lead = [_LEAD, _CORRECTED] if store.run["identity"].get("starts") == "corrected" else [_LEAD]
        return Page("The same pipeline on other modalities", lead, sections, sections[0].grids[:1])


command = Transfer.command()
