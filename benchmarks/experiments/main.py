"""`medcore-bench main`: the paper's Table 1, one-time and sequential compression with recovery."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import pandas as pd

from ..._support.errors import BudgetError
from ...evaluation.metrics import HIGHER_IS_BETTER, TITLES
from ...pruning.level import Level
from ...training.cascade import HEAD_RECOVERY_FRACTION, Cascaded, cascade, second_pass
from ...training.record import outcome
from ...training.settings import RecoverySettings, deciding
from ..report.answer import answer, answer_grid
from ..report.comparison import comparison_frame
from ..report.page import Page, Picture, Section
from ..report.paper import paper_grid
from ..report.plots.recovery import loss_curves, size_against_contour, validation_curves
from ..report.summary import Place, Row, Summary, summarise
from ..report.tables import Grid, estimate, footer, in_blocks, label, metric_cells, size_cells
from ..runner.experiment import Experiment, register_experiment
from ..runner.recover import Item, corrector, records, recovery_settings, unpruned
from ..runner.store import NO_LEVEL, UNPRUNED, ResultStore

UNPRUNED_RECOVERED = "unpruned_recovered"
_LEAD = "Encoder heads and MLP neurons removed and the model fine-tuned against the unpruned one."
_BESIDE = (
    "The unpruned model after the same recovery stands beside them: what it gains is fine-tuning's, not pruning's."
)


def table(summary: Summary, made: Mapping[str, Mapping[str, Any]]) -> Grid:
    """The paper's Table 1 in its layout, with intervals of BF1, latency and peak memory."""
    of_place = {tuple(record["place"][:3]): record for record in made.values()}
    timed = {place: record["latency"] for place, record in of_place.items()}

    def cells(row: Row) -> list[str]:
        name = label(row) if row.level == NO_LEVEL else row.level
        latency = timed.get((row.mode, row.method, row.level))
        if row.method == UNPRUNED and timed:
            own = next(iter(timed.values()))[UNPRUNED]
            latency = {UNPRUNED: own, "model": own}
        found = of_place.get((row.mode, row.method, row.level), {})
        metrics = metric_cells(row, HIGHER_IS_BETTER, ["bf1"])
        return [name, *size_cells(row), *metrics, *_latency(latency), _outcome(found)]

    blocks = {"not pruned": summary.unpruned_rows}
    blocks |= {title: summary.of_mode(mode) for mode, title in summary.modes.items()}
    rows, sections = in_blocks((title, list(map(cells, found))) for title, found in blocks.items())
    columns = ["what", "level", "params M", "FLOPs G", *TITLES.values(), "ms an image", "of unpruned", "peak MB"]
    columns.append("what came back")
    notes = [
        *footer(summary, next(iter(summary.modes), "any")),
        "ms an image: median forward pass of encoder and decoder for one box, batch of one; of unpruned: against the "
        "unpruned model timed in turns with it; peak MB: tensors alive at once in that pass, weights not counted.",
        "what came back: from the last recovery, chosen on validation images; – where there was none.",
    ]
    return Grid("Table 1: compression, contour, cost", columns, rows, notes, sections, left=2)


def _outcome(record: Mapping[str, Any]) -> str:
    """What came back from the last recovery of a model, in words."""
    recovered = [stage for stage in record.get("stages", ()) if "best_step" in stage]
    return _kept(recovered[-1]) if recovered else "–"


def _kept(stage: Mapping[str, Any]) -> str:
    return outcome(stage["best_step"], stage.get("share"))


def _latency(latency: Mapping[str, Any] | None) -> list[str]:
    if latency is None:
        return ["–", "–", "–"]
    own, dense = latency["model"], latency[UNPRUNED]
    share = own["median_ms"] / dense["median_ms"]
    return [f"{own['median_ms']:.1f}", f"{share:.2f}", f"{own['peak_bytes'] / 1e6:.1f}"]


def gains(summary: Summary) -> Grid:
    """Paired differences of BF1: what each step adds at a level, and what is left to the unpruned model."""
    subject = summary.subject
    after: Place = ("any", NO_LEVEL, UNPRUNED_RECOVERED)
    rows = []
    for level in summary.levels:
        cut, corrected = ("cut", level, subject), ("corrected", level, subject)
        recovered, both = ("one_time", level, subject), ("corrected_recovered", level, subject)
        if summary.row(cut) is None:
            continue
        pairs = [
            (corrected, cut),
            (recovered, cut),
            (both, corrected),
            (corrected, ("any", NO_LEVEL, UNPRUNED)),
            (recovered, ("any", NO_LEVEL, UNPRUNED)),
            (both, ("any", NO_LEVEL, UNPRUNED)),
            (recovered, after),
            (both, after),
        ]
        rows.append([level, *(estimate("bf1", summary.paired(own, other), True) for own, other in pairs)])
    fine_tuned = summary.paired(after, ("any", NO_LEVEL, UNPRUNED))
    rows.append(["unpruned", "", estimate("bf1", fine_tuned, True), *[""] * 6])
    columns = [
        "level",
        "correction",
        "recovery",
        "recovery after correction",
        "corrected − unpruned",
        "recovered − unpruned",
        "corrected, recovered − unpruned",
        "recovered − unpruned recovered",
        "corrected, recovered − unpruned recovered",
    ]
    notes = [
        summary.notice,
        "Differences of BF1 with paired 95 % intervals; correction, recovery: against the cut; recovery after "
        "correction: against the corrected model; unpruned recovered: the unpruned model after the same recovery.",
    ]
    return Grid("What each step adds to BF1", columns, rows, notes)


def against_unpruned(summary: Summary) -> pd.DataFrame:
    """BF1 of every model minus that of the unpruned one, itself and after the same recovery, paired: the CSV file."""
    rows = []
    for other in (UNPRUNED, UNPRUNED_RECOVERED):
        place: Place = ("any", NO_LEVEL, other)
        models = [row for row in summary.rows if row.level != NO_LEVEL or row.method == UNPRUNED_RECOVERED]
        for row in models:
            found = summary.paired(row.place, place) if row.place != place else None
            if found is not None:
                ends = (found.value, found.low, found.high, summary.verdict(found))
                rows.append((row.mode, row.level, row.method, other, *ends))
    columns = ["mode", "level", "method", "minus", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns).assign(metric="bf1", notice=summary.notice)


def recoveries(made: Mapping[str, Mapping[str, Any]], store: ResultStore) -> Grid:
    """Every recovery: steps, what came back, the loss at both ends, seconds."""
    rows = []
    for record in made.values():
        for stage in record["stages"]:
            losses = stage.get("losses", {}).get("loss", [])
            if losses:
                tenth = max(1, len(losses) // 10)
                start, end = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
                kept = _kept(stage) + (", stopped early" if stage["stopped_early"] else "")
                name = " ".join(filter(None, record["place"])).replace("_", " ")
                cells = [str(len(losses)), kept, f"{start:.3f}", f"{end:.3f}", f"{stage['seconds']:.0f}"]
                rows.append([name, stage["name"], *cells])
    columns = ["model", "stage", "steps", "what came back", "loss, first tenth", "last tenth", "seconds"]
    asked = store.run.get("identity", {}).get("recovery")
    return Grid("Recoveries", columns, rows, [_in_words(asked)] if asked else [], left=2)


def _in_words(recovery: Mapping[str, Any]) -> str:
    """How models were recovered."""
    rate = recovery["learning_rate"]
    peak = "the usual peak rate of the model" if rate is None else f"a peak rate of {rate:g}"
    weights = "; ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in recovery["weights"].items() if value)
    averaged = "; the last weights averaged with the start's" if recovery.get("average") else ""
    precision = f", {recovery['precision']}" if recovery.get("precision") else ""
    return (
        f"Batches of {recovery['batch_size']} images, {peak}{precision}, terms by their weights: {weights}{averaged}."
    )


HOLLOW = "hollow: what was kept, an average at the last step."
FIRST = Level.parse("h70_m95")
"""The one-time level that the sequential second pass starts from, recovered."""
MODES = {
    "cut": "one-time, no recovery",
    "corrected": "one-time, corrected, no recovery",
    "one_time": "one-time, recovered",
    "corrected_recovered": "one-time, corrected, recovered",
    "sequential": "sequential, recovered",
}


@register_experiment("main")
@dataclass
class Main(Experiment):
    """Compress with recovery, one-time and sequential, and measure contours, size, latency and memory."""

    modes = MODES

    method: str
    one_time: tuple[Level, ...]
    sequential: tuple[Level, ...]
    no_sequential: bool
    steps: int | None
    schedule: str = "cascade"
    starts: str = "all"
    protect: int | None = None

    def __post_init__(self) -> None:
        if self.protect is not None and self.sequential and not self.no_sequential:
            raise BudgetError(
                "sequential levels prune the blocks that the paper's policy protects: give --no-sequential with protect"
            )

    def recovery(self) -> RecoverySettings:
        return recovery_settings(self.settings, self.steps)

    def identity(self) -> dict[str, Any]:
        recovery = deciding(asdict(self.recovery()))
        return {"recovery": recovery, "schedule": self.schedule, **self._unlike_the_paper}

    @property
    def _unlike_the_paper(self) -> dict[str, int]:
        """What is asked of one-time levels besides."""
        return {} if self.protect is None else {"protect": self.protect}

    def items(self) -> list[Item]:
        return [*self._one_time(), self._unpruned(), *self._sequential()]

    def _unpruned(self) -> Item:
        recovery = self.recovery()

        def make() -> Cascaded:
            return self.maker.recovered(unpruned(copy.deepcopy(self.inputs.adapted)), self.inputs.roles)

        return Item(
            "any", UNPRUNED_RECOVERED, NO_LEVEL, make, {"recovery": deciding(asdict(recovery))}, recovery.steps, 1
        )

    def _one_time(self) -> Iterator[Item]:
        recovery = self.recovery()
        ways: Mapping[str, tuple[dict[str, Any], int, int]] = {
            "cut": ({"schedule": "one-shot", "recovery": None}, 0, 0),
            "corrected": ({"schedule": "one-shot", "recovery": None, "correct": corrector(self.settings)}, 0, 0),
            "one_time": ({"schedule": self.schedule, "recovery": recovery}, *self._work(recovery)),
            "corrected_recovered": (
                {"schedule": self.schedule, "recovery": recovery, "correct": corrector(self.settings)},
                *self._work(recovery),
            ),
        }
        for level in self.one_time:

            @cache
            def corrected(level: Level = level) -> Cascaded:
                return self._cascade(level, {**ways["corrected"][0], **self._unlike_the_paper})

            for mode, (options, steps, count) in ways.items():
                if mode == "one_time" and self.starts == "corrected":
                    continue
                asked = {**options, **self._unlike_the_paper}
                make: Callable[[], Cascaded] = partial(self._cascade, level, asked)
                if mode == "corrected":
                    make = corrected
                elif mode == "corrected_recovered" and self.schedule == "one-shot":
                    # as the cascade would, but for the correction, which is not made twice
                    make = partial(self._recovered, corrected)
                yield Item(mode, self.method, str(level), make, self._recipe(asked), steps, count)

    def _cascade(self, level: Level, options: Mapping[str, Any]) -> Cascaded:
        return cascade(self.inputs.adapted, level, self.method, **self.maker.options, **options)

    def _recovered(self, start: Callable[[], Cascaded]) -> Cascaded:
        return self.maker.recovered(start(), self.inputs.roles)

    def _recipe(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What of the options tells one model from another; the correction by what it reads."""
        plain = {name: value for name, value in options.items() if name != "correct"}
        recovery = plain.get("recovery")
        plain["recovery"] = None if recovery is None else deciding(asdict(recovery))
        plain["correction"] = self.settings.counts.correction if "correct" in options else 0
        return {**plain, "method": self.methods[0].fingerprint}

    def _work(self, recovery: RecoverySettings) -> tuple[int, int]:
        """Optimiser steps and recoveries that one pass takes: the cascade recovers after the heads too."""
        short = recovery.shortened(HEAD_RECOVERY_FRACTION).steps if self.schedule == "cascade" else 0
        return recovery.steps + short, 1 + bool(short)

    def _sequential(self) -> Iterator[Item]:
        recovery = self.recovery()
        options: dict[str, Any] = {"schedule": self.schedule, "recovery": recovery}

        @cache
        def first() -> Cascaded:
            return cascade(self.inputs.adapted, FIRST, self.method, **self.maker.options, **options)

        for level in () if self.no_sequential else self.sequential:

            def make(level: Level = level) -> Cascaded:
                return second_pass(first(), level, self.method, **self.maker.options, **options)

            recipe = {**self._recipe(options), "first": str(FIRST)}
            # the first recovery is that of the one-time level, which is shared
            yield Item("sequential", self.method, str(level), make, recipe, *self._work(recovery))

    @staticmethod
    def page(store: ResultStore) -> Page:
        summary = summarise(store)
        made = records(store)
        pictures = {
            "size": Picture(
                "Encoder parameters left against BF1, a line a way; dashed: the unpruned model, and it after the same "
                "recovery.",
                lambda theme: size_against_contour(summary, theme),
            )
        }
        curves = {
            "steps": Picture(
                f"BF1 on validation images against the steps of each recovery; {HOLLOW}",
                lambda theme: validation_curves(made, theme),
            ),
            "losses": Picture(
                f"Loss of each recovery (running mean) and, as dots, BF1 on validation images; {HOLLOW}",
                lambda theme: loss_curves(made, theme),
            ),
        }
        shown = [table(summary, made), paper_grid(1)]
        ways = list(summary.modes)
        best = [grid] if (grid := answer_grid(summary, ways)) else []
        trained: Place = ("any", NO_LEVEL, UNPRUNED_RECOVERED)
        sections = [
            Section("What to take", answer(summary, ways, trained), best),
            Section("Compression with recovery", figures=pictures, grids=shown),
            Section("What recovery and correction add", grids=[gains(summary)]),
            Section("Recoveries", figures=curves, grids=[recoveries(made, store)]),
        ]
        protect = store.run.get("identity", {}).get("protect")
        beside = [_BESIDE] if summary.row(trained) else []
        spared = [] if protect is None else [f"One-time levels leave the {protect} deepest blocks whole."]
        lead = [" ".join([_LEAD, *beside]), *spared]
        frames = {"comparison": comparison_frame(summary), "against_unpruned": against_unpruned(summary)}
        return Page("Compression with recovery", lead, sections, shown, frames)


command = Main.command()
