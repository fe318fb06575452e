"""A good file in the place of another: said in one line, with the file that it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.calibration.storage import FilePart
from medcore_prune.checkpoints.sam import read_state_dict
from medcore_prune.data.prompts import boxes_from_csv
from medcore_prune.data.splits.split import Split
from medcore_prune.training.loop import TrainState

SETS = {"a": TinySamples("a", 6)}


def read_state(path: Path) -> TrainState:
    model = torch.nn.Linear(2, 2)
    return TrainState(model, torch.optim.AdamW(model.parameters()), {}, "", path)


READERS: dict[str, Callable[[Path], Any]] = {
    "plan.json": mp.Plan.load,
    "split.json": lambda path: Split.load(path, SETS),
    "boxes.csv": boxes_from_csv,
    "image.png": mp.data.read_image,
    "weights.pth": read_state_dict,
    "pruned.safetensors": mp.load,
    "statistics.safetensors": FilePart,
    "state.pt": read_state,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a good file for each reader."""
    place = tmp_path_factory.mktemp("files")
    model = tiny_sam()
    plan = mp.make_plan(model, "h50_m70")
    plan.save(place / "plan.json")
    mp.data.split(SETS, fractions=(0.5, 0.25, 0.25)).save(place / "split.json")
    (place / "boxes.csv").write_text("name,x0,y0,x1,y1\na,1,2,30,40\n")
    mp.save(mp.prune(model, plan), place / "pruned.safetensors")
    torch.save({"model": model.state_dict()}, place / "weights.pth")
    mp.calibrate(model, data=SETS, samples=2, needs=["directional_zero"], cache_dir=place / "cache", progress=False)
    next((place / "cache").rglob("directional_zero*.safetensors")).rename(place / "statistics.safetensors")
    read_state(place / "state.pt").save()
    Image.fromarray(SETS["a"][0].image).save(place / "image.png")
    return place


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_every_other_kind_of_file(files: Path, tmp_path: Path, reader: str) -> None:
    READERS[reader](files / reader)
    for other in READERS.keys() - {reader}:
        # under its own name, and under the name that is expected
        (renamed := tmp_path / f"x{Path(reader).suffix}").write_bytes((files / other).read_bytes())
        for path in (files / other, renamed):
            if reader == "weights.pth" and (path.suffix == ".safetensors" or other == "state.pt"):
                continue  # tensors by name are weights, whoever wrote them; their names must fit the model then
            with pytest.raises(MedcorePruneError) as caught:
                READERS[reader](path)
            assert path.name in str(caught.value)
            assert "\n" not in str(caught.value)


def test_what_belongs_to_another_model_or_data_set_is_refused(files: Path, tmp_path: Path) -> None:
    model, other, larger = tiny_sam(0), tiny_sam(1), mp.zoo.pocket("adapted")
    plan = mp.Plan.load(files / "plan.json")
    statistics = mp.calibrate(other, data=SETS, samples=2, needs=["fisher"], cache_dir=tmp_path, progress=False)
    with pytest.raises(MedcorePruneError, match="other weights or settings: calibrate this model"):
        mp.plan(model, "h50_m50", "vanilla_fisher", statistics=statistics)
    with pytest.raises(MedcorePruneError, match=r"the statistics .* the model was changed since; calibrate it again"):
        mp.plan(larger, "h50_m50", "vanilla_fisher", statistics=statistics)
    with pytest.raises(MedcorePruneError, match="the plan is for 4 blocks, the model has 12"):
        mp.prune(larger, plan)
    small = mp.prune(model, plan)
    with pytest.raises(MedcorePruneError, match="the plan does not fit: block 0 has 2 heads"):
        mp.prune(small, plan)
    with pytest.raises(MedcorePruneError, match="differ in size"):
        mp.correct(small, larger, SETS, progress=False)
    with pytest.raises(MedcorePruneError, match=r"new in a: 006"):
        Split.load(files / "split.json", {"a": TinySamples("a", 7)})
    with pytest.raises(MedcorePruneError, match="does not fit pocket"):
        mp.load_sam("pocket", files / "weights.pth")
