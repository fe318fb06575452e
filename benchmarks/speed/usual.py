"""A cut and a prediction beside what one would otherwise take (`python -m medcore_prune.benchmarks.speed.usual`).

The cut by torch-pruning's own pruner, of the same units by the same scores; the prediction of one box and of several by
segment-anything's `SamPredictor`, on an image that both prepare alike. All in turn, in one run: the ratios count. What
is made is compared: the same weights, and how many pixels of a mask differ.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
import torch_pruning as tp
from torch import nn

from ... import compat  # noqa: F401  # before segment_anything, which imports torchvision
from ...models.families import geometry_of
from ...models.predictor import Predictor
from ...models.segment_anything import build_sam
from ...pruning.level import Level
from ...pruning.planning import plan
from ...pruning.surgery import prune
from ...pruning.traceable import all_but_units, heads_by_layer, traceable
from .timed import REPEATS, SHAPE, Run, median_ms, ratios, recorded, rounds_of, seconds

from segment_anything import SamPredictor  # isort: skip

LEVEL = Level.parse("h50_m50")
BOXES = (1, 5)


@click.command()
@click.option("--model", type=SHAPE, default="pocket", show_default=True, help="Random weights.")
@click.option("--image-size", type=int, help="Input side in pixels.  [default: the model's own]")
@REPEATS
@recorded
def command(model: str, image_size: int | None, repeats: int, run: Run) -> None:
    """Print milliseconds of both sides of each comparison, and their ratios, as JSON."""
    sam = build_sam(model, run.device, image_size=image_size)
    about = {"model": model, "image_size": geometry_of(sam).image_size, "level": str(LEVEL), "repeats": repeats}
    run.record("usual", about, lambda: measure(sam, repeats), "torch-pruning", "segment-anything")


def measure(model: nn.Module, repeats: int = 7) -> dict[str, Any]:
    """Time both sides in turn; the model is left as it is.

    `cut_ours_ms`, `cut_usual_ms` and `cut_usual_over_cut_ours`, with the lowest and highest, `cut_differences`, how
    many tensors of the two cut models differ; the same for `predict_1` and `predict_5`, a prediction of as many boxes,
    with `_pixels` of the masks and `_differences`, those that differ.
    """
    model = copy.deepcopy(model).eval()
    _alike(model)
    size, device = geometry_of(model).image_size, next(model.parameters())
    image, boxes = picture(size), squares(size, max(BOXES))
    made: dict[str, Any] = {}

    def take() -> dict[str, float]:
        works: dict[str, Callable[[], Any]] = {
            "cut_ours": partial(cut, model),
            # it cuts in place
            "cut_usual": partial(cut_by_torch_pruning, copy.deepcopy(model)),
        }
        for count in BOXES:
            works[f"predict_{count}_ours"] = partial(predict, model, image, boxes[:count])
            works[f"predict_{count}_usual"] = partial(predict_by_segment_anything, model, image, boxes[:count])
        return {name: seconds(partial(_keep, made, name, work), device) for name, work in works.items()}

    rounds = rounds_of(take, repeats)
    found: dict[str, Any] = {"cut_differences": differences(made["cut_ours"], made["cut_usual"])}
    for name in ("cut", *(f"predict_{count}" for count in BOXES)):
        found |= {f"{side}_ms": median_ms(rounds, side) for side in (f"{name}_ours", f"{name}_usual")}
        found |= ratios(rounds, (f"{name}_usual", f"{name}_ours"))
    for count in BOXES:
        ours, usual = made[f"predict_{count}_ours"], made[f"predict_{count}_usual"]
        found |= {f"predict_{count}_pixels": int(ours.size), f"predict_{count}_differences": int((ours != usual).sum())}
    return found


def _keep(made: dict[str, Any], name: str, work: Callable[[], Any]) -> None:
    made[name] = work()


def _alike(model: Any) -> None:
    """Have segment-anything scale an image of all values 0 to 255 as MedSAM's protocol does, to [0, 1]."""
    model.pixel_mean.zero_()
    model.pixel_std.fill_(255.0)


def picture(size: int) -> npt.NDArray[np.uint8]:
    """Noise of the model's own size, (size, size, 3), that has the values 0 and 255."""
    values = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    values[0, 0], values[0, 1] = 0, 255
    return values


def squares(size: int, count: int) -> npt.NDArray[np.float64]:
    """Boxes (count, 4) along the diagonal."""
    starts = np.arange(count) * size / (2 * count)
    return np.stack([starts, starts, starts + size / 2, starts + size / 2], axis=1)


def cut(model: nn.Module) -> nn.Module:
    """Score units by torch-pruning's magnitude, take the same share of every block, and remove them."""
    return prune(model, plan(model, LEVEL, _importance(), protect=0))


def cut_by_torch_pruning(model: nn.Module) -> nn.Module:
    """The same by torch-pruning's own pruner, in place."""
    with traceable(model) as encoder, warnings.catch_warnings():
        # relative positions and the neck's normalisation, from which nothing goes
        warnings.filterwarnings("ignore", message="Unwrapped parameters")
        patch = geometry_of(model).patch_size
        tp.pruner.BasePruner(
            encoder,
            torch.zeros(1, 3, 4 * patch, 4 * patch, device=next(model.parameters()).device),
            importance=_importance(),
            pruning_ratio=LEVEL.neurons,
            head_pruning_ratio=LEVEL.heads,
            num_heads=heads_by_layer(model),
            ignored_layers=all_but_units(model),
            prune_num_heads=True,
            prune_head_dims=False,
        ).step()
    return model


def _importance() -> Any:
    return tp.importance.GroupMagnitudeImportance(p=2)


def differences(one: nn.Module, other: nn.Module) -> int:
    """How many tensors of two models are not equal, in shape or value."""
    first, second = one.state_dict(), other.state_dict()
    return sum(
        name not in first or name not in second or not torch.equal(first[name], second[name])
        for name in first.keys() | second.keys()
    )


def predict(model: nn.Module, image: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Masks (n, H, W) of an image's boxes."""
    return Predictor(model, "logits").set_image(image).predict(boxes)


def predict_by_segment_anything(
    model: nn.Module, image: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """The same by `SamPredictor`, all boxes in one batch of its decoder."""
    predictor = SamPredictor(model)
    predictor.set_image(image)
    given = torch.as_tensor(boxes, dtype=torch.float32, device=predictor.device)
    scaled = predictor.transform.apply_boxes_torch(given, image.shape[:2])
    masks, _, _ = predictor.predict_torch(None, None, scaled, multimask_output=False)
    found: npt.NDArray[np.bool_] = masks[:, 0].cpu().numpy()
    return found


if __name__ == "__main__":
    command()
