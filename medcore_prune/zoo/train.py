"""Train the pocket pair anew: `python -m medcore_prune.zoo.train`.

Three rounds of pretraining from nothing, then the reference on phantom objects, then the adapted model from the
reference on the medical phantoms. A killed run goes on where it stopped. Seeds of training images are disjoint from
those of every comparison.

Why the pretraining: trained from nothing on phantom objects, so small a model stops at what the box gives away (its
embedding hardly changes with the image), and a reference like that has next to no Fisher information. It gets over that
on the medical phantoms, so that the reference starts from there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from safetensors.torch import save_file
from torch import nn

from .._support.files import atomic_write
from .._support.progress import track
from ..data import phantoms
from ..models.segment_anything import build_sam
from ..training.adapt import adapt_pool, pool_size
from ..training.pool import Pool
from ..training.settings import AdaptSettings
from . import Role

# phantom seeds below this are left to calibration, validation and test
TRAIN_SEED = 1000
VALIDATION_SEED = 2000
_SECONDS_A_STEP = 1.0


@dataclass(frozen=True)
class Stage:
    """One training; each goes on with the weights of the one before.

    Attributes:
        name: Of the resumable state.
        role: Of the pair, if the weights ship.
        sets: Phantom sets to train on, equally many images of each.
        images: Training images of each set.
        settings: Steps, learning rate and so on.
        image_seed: Of the training images.
    """

    name: str
    role: Role | None
    sets: tuple[str, ...]
    images: int
    settings: AdaptSettings
    image_seed: int = TRAIN_SEED


_MEDICAL = ("phantom_polyp_a", "phantom_polyp_b", "phantom_polyp_c", "phantom_ultrasound", "phantom_skin")
STAGES = (
    Stage("box-prior", None, ("phantom_objects",), 4000, AdaptSettings(2200, 16, 2, 1.5e-3, seed=1)),
    Stage("pretrained", None, _MEDICAL, 1200, AdaptSettings(1800, 16, 1, 1e-3, seed=2, validate_every=300)),
    # the contour converges long after the region: a second round on more images
    Stage("pretrained-2", None, _MEDICAL, 2400, AdaptSettings(2600, 16, 1, 1.2e-3, seed=3, validate_every=325)),
    Stage("reference", "reference", ("phantom_objects",), 4000, AdaptSettings(900, 16, 2, 1e-3, seed=4)),
    # on images that pretraining has not seen, so that what the pair differs in is what adaptation put there
    Stage("adapted", "adapted", _MEDICAL, 1200, AdaptSettings(1100, 16, 1, 8e-4, seed=5, validate_every=275), 3000),
)


def _scenes(sets: tuple[str, ...], seed: int, count: int) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    jobs = [(name, index) for name in sets for index in range(count)]
    for name, index in track(jobs, "drawing phantoms", total=len(jobs)):
        image, masks = phantoms.scene(name, seed, index)
        yield image, list(masks)


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's weights in half precision as safetensors."""
    state = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(state, temporary, metadata={"format": "pocket-sam", "data": "phantom images: not a clinical result"})


def train_stage(stage: Stage, model: nn.Module, work: Path) -> list[float]:
    """Run one stage on `model` in place and return its losses."""
    size = pool_size(model)
    pool = Pool.of_scenes(_scenes(stage.sets, stage.image_seed, stage.images), size)
    validation = None
    if stage.settings.validate_every and len(stage.sets) > 1:
        validation = Pool.of_scenes(_scenes(stage.sets, VALIDATION_SEED, 40), size)
    return adapt_pool(model, pool, stage.settings, work / f"{stage.name}.state.pt", validation=validation).losses


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent, help="Where the weights go.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/zoo"), help="Where resumable states go.")
@click.option("--device", default="cpu", show_default=True)
def main(out: Path, work: Path, device: str) -> None:
    """Train the pocket reference and the pocket adapted model."""
    steps = sum(stage.settings.steps for stage in STAGES)
    click.echo(f"{steps} steps; about {steps * _SECONDS_A_STEP / 60:.0f} minutes on two cores, minutes on a GPU")
    model = build_sam("pocket", device)
    for stage in STAGES:
        losses = train_stage(stage, model, work)
        if stage.role:
            save_weights(out / f"pocket_{stage.role}.safetensors", model)
        click.echo(f"{stage.name}: mean loss of the last 100 steps {np.mean(losses[-100:]):.4f}")


if __name__ == "__main__":
    main()
