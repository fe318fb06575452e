"""What was computed in one precision is found under no other, whatever else is the same."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from bench_store import run_record
from tiny import tiny_sam
from tiny_samples import TinySamples

from medcore_prune.benchmarks.experiments import analyses
from medcore_prune.benchmarks.experiments.analyses import early_samples, early_scores
from medcore_prune.benchmarks.experiments.baselines import correction
from medcore_prune.benchmarks.experiments.leverage.steps import StepGrid
from medcore_prune.benchmarks.experiments.leverage.sweep import Cells
from medcore_prune.benchmarks.runner.evaluate import FLOOR_NAMES, UNPRUNED, Evaluator
from medcore_prune.benchmarks.runner.inputs import Inputs
from medcore_prune.benchmarks.runner.jobs import Scored, kept_scores, make_jobs, scored_by
from medcore_prune.benchmarks.runner.methods import Method, choose_methods
from medcore_prune.benchmarks.runner.recover import Item, Maker, unpruned
from medcore_prune.benchmarks.runner.settings import COUNTS, Settings
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.benchmarks.studies.study import Study
from medcore_prune.calibration.calibrate import calibrate
from medcore_prune.correction.search.settings import SearchSettings
from medcore_prune.data.splits.split import FRACTIONS, Split
from medcore_prune.evaluation.memory import Measured
from medcore_prune.models.groups import groups_of
from medcore_prune.pruning.level import Level
from medcore_prune.pruning.planning import make_plan
from medcore_prune.scoring.recipes import get_baseline
from medcore_prune.training.recover import recovery_key
from medcore_prune.training.settings import RecoverySettings

SETS = {"tiny": TinySamples("tiny", 8)}
WORDS = ("fp32", "tf32")


@pytest.fixture
def inputs() -> Inputs:
    return Inputs(tiny_sam(), None, SETS, lambda _: SETS, False, False, Split(SETS, SETS, SETS, 0, FRACTIONS))


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[str], Settings]:
    settings = Settings(
        tmp_path,
        replace(COUNTS["quick"], calibration=8),
        levels=(Level.parse("h50_m70"),),
        methods=("zero_fisher",),
        eval_size=32,
    )
    return lambda word: replace(settings, precision=word)


def _method(name: str) -> Method:
    return Method(name, get_baseline(name), "built-in", (0,))


def _maker(inputs: Inputs, settings: Settings, store: ResultStore) -> Maker:
    return Maker(inputs, settings, store, Evaluator(inputs, settings, store), RecoverySettings(precision="bf16"))


def test_no_key_of_one_is_a_key_of_another(inputs: Inputs, asked: Callable[[str], Settings]) -> None:
    store = ResultStore.create(asked("fp32").out, run_record())
    item = Item("any", "corrected", "h50_m70", lambda: unpruned(inputs.adapted))
    grid = StepGrid((0.25, 0.5), (0.3, 0.6))
    plans = {level: make_plan(inputs.adapted, level) for level in grid.levels}
    keys: dict[str, Callable[[Settings], object]] = {
        "an evaluation": lambda s: Evaluator(inputs, s, store).key("a plan", "tiny"),
        "the unpruned model's": lambda s: Evaluator(inputs, s, store).key(UNPRUNED, "tiny"),
        "scores by statistics": lambda s: scored_by(_method("zero_fisher"), 0, inputs, s),
        "scores by runs": lambda s: scored_by(_method("exact"), 0, inputs, s),
        "a correction": lambda s: correction(inputs, s).key,
        "a model that is made": lambda s: _maker(inputs, s, store).origin(item),
        "a sweep": lambda s: Cells.of(inputs.adapted, grid, plans, s.precision).digest,
    }
    for what, key in keys.items():
        assert key(asked("fp32")) != key(asked("tf32")), what
        assert key(asked("fp32")) == key(asked("fp32")), what


def test_what_runs_no_network_is_the_same_in_all(inputs: Inputs, asked: Callable[[str], Settings]) -> None:
    store = ResultStore.create(asked("fp32").out, run_record())
    for floor in FLOOR_NAMES.values():
        assert len({Evaluator(inputs, asked(word), store).key(floor, "tiny") for word in WORDS}) == 1
    assert len({scored_by(_method("magnitude"), 0, inputs, asked(word)) for word in WORDS}) == 1


def test_an_evaluation_says_its_precision_and_is_done_again_in_another(
    inputs: Inputs, asked: Callable[[str], Settings]
) -> None:
    store = ResultStore.create(asked("fp32").out, run_record())
    jobs = make_jobs([_method("magnitude")], inputs, {}, asked("fp32"), store, ("own",))
    for settings in map(asked, WORDS):
        evaluator = Evaluator(inputs, settings, store)
        assert evaluator.missing(jobs) == [(jobs[0], "tiny")]
        evaluator.run_unpruned()
        evaluator.run(jobs)
        assert not evaluator.missing(jobs)
        said = {cell.cell.method: cell.settings["precision"] for cell in store.cells()}
        assert said == {"magnitude": settings.precision, UNPRUNED: settings.precision} | dict.fromkeys(
            FLOOR_NAMES.values()
        )


def test_unit_scores_are_taken_again_in_another(
    inputs: Inputs, asked: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore.create(asked("fp32").out, run_record())
    taken: list[int] = []
    draw = analyses.calibrated_draw
    monkeypatch.setattr(analyses, "calibrated_draw", lambda *args: (taken.append(args[5]), draw(*args))[1])
    for word in (WORDS[0], *WORDS):
        early_scores(choose_methods(asked(word)), inputs, store, asked(word))
    # not for the second look in the first precision
    assert taken == 2 * early_samples(inputs, asked("fp32"))
    # and those of all samples, which several runs of the folder share
    key, scores = (0, "heads"), torch.arange(4.0)
    every = {(group.block, group.family): torch.zeros(group.n_units) for group in groups_of(inputs.adapted)}
    first, other = (kept_scores(_method("zero_fisher"), 0, inputs, asked(word), store) for word in WORDS)
    first.put(Scored({**every, key: scores}, None, Measured()))
    again = first.get()
    assert again is not None
    assert torch.equal(again.scores[key], scores)
    assert other.get() is None


def test_a_study_knows_its_precision(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(inputs, 4)
    before = study.identity
    assert before == {**inputs.hashes, "precision": "fp32"}
    monkeypatch.setattr("medcore_prune.benchmarks.studies.study.current_precision", lambda device: "tf32")
    assert study.identity != before


def test_what_folders_share_is_kept_apart(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = inputs.adapted, RecoverySettings(steps=1)
    timed, searched = map(
        import_module, ("medcore_prune.pruning.block_times", "medcore_prune.correction.search.search")
    )
    of_word = []
    for word in WORDS:
        for module in (timed, searched):
            monkeypatch.setattr(module, "current_precision", lambda device, word=word: word)
        search = searched.Search(model, "mine", {}, SETS, SearchSettings(), cache_dir=tmp_path)
        of_word.append((timed._about(model, 1), search._ledger._inputs))
    for one, other in zip(*of_word, strict=True):
        assert one != other
    # recoveries and statistics take theirs from their settings
    words = ("fp32", "bf16")
    assert len({recovery_key(model, model, inputs.roles, replace(settings, precision=word)) for word in words}) == 2
    folders = set()
    for word in words:
        calibrate(model, data=SETS, needs={"fisher"}, cache_dir=tmp_path, precision=word, progress=False)
        folders |= {path.name for path in tmp_path.glob("adapted-*")}
    assert len(folders) == 2
