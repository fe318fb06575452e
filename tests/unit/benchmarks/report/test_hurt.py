"""The images that are shown as those where it hurts most."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bench_store import LEVELS, build
from skimage import io
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune.benchmarks.report import comparison, hurt
from medcore_prune.benchmarks.report.page import write_results
from medcore_prune.benchmarks.runner.evaluate import UNPRUNED
from medcore_prune.benchmarks.runner.evaluate import Evaluator as Whole
from medcore_prune.benchmarks.runner.jobs import Job
from medcore_prune.benchmarks.runner.kept import KeptMasks
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.evaluation.evaluate import predict
from medcore_prune.evaluation.images import EvaluationSet
from medcore_prune.evaluation.memory import Measured
from medcore_prune.models.families import geometry_of

# Boundary F1 of the unpruned model and of the cut one, image by image
BEFORE, AFTER = [0.9, 0.8, 0.7, 0.6], [0.8, 0.3, 0.9, 0.3]


class Evaluator(SimpleNamespace):
    """What is asked of an evaluator, with the scores above in place of a run."""

    masks_of = Whole.masks_of

    def key(self, masks: str, dataset: str) -> str:
        return masks

    def evaluation(self, key: str) -> Any:
        return SimpleNamespace(images=pd.DataFrame({"bf1": BEFORE if key == UNPRUNED else AFTER}))


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    store, model = build(tmp_path), tiny_sam()
    store.evaluation = Evaluator().evaluation  # type: ignore[method-assign]
    inputs = SimpleNamespace(adapted=model, sets={"set_a": TinySamples("set_a", 4)}, frame=geometry_of(model).frame)
    settings = SimpleNamespace(eval_size=48, tolerance_px=2.0, precision="fp32")
    return Evaluator(store=store, inputs=inputs, settings=settings, kept=KeptMasks())


def jobs(mode: str = "own") -> list[Job]:
    plan = mp.make_plan(tiny_sam(), "h50_m50")
    return [Job("medcore", mode, level, 0, plan, Measured(0.0, 0)) for level in LEVELS]


def test_those_that_lose_most_are_shown_worst_first(evaluator: Any) -> None:
    assert hurt._worst(evaluator, jobs()[0]) == {"set_a": [1, 3]}


def test_pictures_of_the_best_method_of_each_level_are_kept(evaluator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    summarise = hurt.summarise
    monkeypatch.setattr(hurt, "summarise", lambda store: summarise(ResultStore.open(store.root)))
    hurt.make_hurt(evaluator, jobs())
    found = evaluator.store.analysis(hurt.ANALYSIS)
    assert [(each["level"], each["file"]) for each in found["pictures"]] == [
        (level, f"gallery/set_a-{1000 + place}.png") for level in LEVELS for place in (1, 3)
    ]
    few = EvaluationSet(TinySamples("set_a", 4), evaluator.inputs.frame, 48)
    small = mp.prune(evaluator.inputs.adapted, jobs()[0].plan)
    scores = [hurt.score(predict(model, few), few)["bf1"] for model in (evaluator.inputs.adapted, small)]
    for each, place in zip(found["pictures"], (1, 3, 1, 3), strict=True):
        said = [each["predicted"][key]["bf1"] for key in (UNPRUNED, f"{each['level']}/medcore")]
        assert said == pytest.approx([score[place] for score in scores])
    # nothing is made again for the same models
    monkeypatch.setattr(hurt, "built", None)
    hurt.make_hurt(evaluator, jobs())


def test_masks_that_the_run_predicted_are_shown_and_no_model_is_made(
    evaluator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = EvaluationSet(TinySamples("set_a", 4), evaluator.inputs.frame, 48)
    job = jobs()[0]
    small = mp.prune(evaluator.inputs.adapted, job.plan)
    for masks, model in ((UNPRUNED, evaluator.inputs.adapted), (job.masks, small)):
        evaluator.kept.keep(evaluator.key(masks, "set_a"), predict(model, few))
    summarise = hurt.summarise
    monkeypatch.setattr(hurt, "summarise", lambda store: summarise(ResultStore.open(store.root)))
    monkeypatch.setattr(hurt, "built", None)
    hurt.make_hurt(evaluator, jobs())
    kept = evaluator.store.analysis(hurt.ANALYSIS)["pictures"]
    monkeypatch.undo()
    evaluator.store = build(evaluator.store.root.parent / "again")
    evaluator.store.evaluation = evaluator.evaluation
    evaluator.kept = KeptMasks()
    monkeypatch.setattr(hurt, "summarise", lambda store: summarise(ResultStore.open(store.root)))
    hurt.make_hurt(evaluator, jobs())
    assert evaluator.store.analysis(hurt.ANALYSIS)["pictures"] == kept


def test_the_page_says_whether_a_picture_is_of_a_corrected_model(tmp_path: Path) -> None:
    store = build(tmp_path)
    (tmp_path / "gallery").mkdir()
    io.imsave(tmp_path / "gallery" / "set_a-1001.png", np.zeros((8, 8, 3), np.uint8), check_contrast=False)
    outline = {"contours": [[[0.2, 0.2], [0.8, 0.2], [0.2, 0.2]]], "bf1": 0.25, "dice": 0.75}
    picture = {"dataset": "set_a", "name": "one", "file": "gallery/set_a-1001.png", "size": [8, 8]}
    picture |= {
        "box": [0.1, 0.1, 0.9, 0.9],
        "true": outline["contours"],
        "level": LEVELS[0],
        "title": "medcore, corrected",
    }
    picture |= {"predicted": {UNPRUNED: outline | {"bf1": 0.5}, f"{LEVELS[0]}/medcore": outline}}
    store.write_analysis(hurt.ANALYSIS, {"state": {}, "pictures": [picture]})
    text = write_results(store, comparison.page(store)).read_text()
    section = text[text.index('id="where-it-hurts-most"') : text.index('id="table"')]
    assert "medcore, corrected<br><span>BF1 0.25" in section
    assert section.index("unpruned<br><span>BF1 0.50") < section.index("medcore, corrected<br>")
