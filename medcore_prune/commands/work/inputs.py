"""Models and images of a command: found, loaded and checked before any work starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from torch import nn

from ..._support.errors import CheckpointError, DataError, WriteError
from ..._support.files import refuse_folders, refuse_overwriting, require_writable
from ..._support.journal import Journal
from ...checkpoints.pruned import SAM
from ...checkpoints.sam import load_checkpoint
from ...data import phantoms
from ...data.folders.reading import AS_IT_IS, Reading
from ...data.phantoms.marked import is_synthetic
from ...data.samples import SampleSet, at_most, own_roles, subset_hash
from ...data.splits.beside import refuse_seen, split_beside, split_file
from ...data.splits.split import Split
from ...models.families import family_of, geometry_of
from ...models.pairs import require_aligned
from ...models.sam_shape import kind_of
from ...models.segment_anything import shape_of
from ...models.switches import set_attention
from ...pruning.surgery import lineage_of, prune
from ...zoo import NOTICE, is_word, named
from ..options import PHANTOM_SETS
from .folders import Named, open_data, parse_data
from .outputs.existing import Results, refuse_existing

POCKET = "pocket"
_PHANTOM_SEEDS = {"train": 3, "validation": 1, "test": 0}
PHANTOM_COUNTS = {"train": 32, "validation": 6}
"""Phantoms of each set that `prune` and `recover` work on; calibration draws from the first."""
PHANTOM_TEST = 12
"""Phantoms of each set that `evaluate` reports on."""


def read_model(place: str, role: str = "adapted", *, device: str = "cpu", image_size: int | None = None) -> nn.Module:
    """Load a file of this tool, a SAM or MedSAM checkpoint, or a model of the zoo, by `role`; in float32."""
    if is_word(place):
        model = named(place, "reference" if role == "reference" else "adapted", device, image_size)
    else:
        model = load_checkpoint(place, image_size=image_size, device=device)
    preferred = getattr(family_of(model), "preferred_attention", None)
    return model if preferred is None else set_attention(model, preferred)


def named_model(model: str | None, images: "ImageOptions", command: str) -> str:
    """Return the model that was named, or the built-in one for drawn images; for those of a user one must be named."""
    if model is None and not images.is_phantom:
        raise CheckpointError(
            f"--data names images of yours, but no model is named: {command} FILE --data ...; to take the built-in "
            f"phantom model on purpose, {command} {POCKET} --data ..."
        )
    return POCKET if model is None else model


def model_kind(model: nn.Module) -> str:
    """What a model is called: a SAM by its shape, `custom` where that is no known one, others by their family."""
    family = family_of(model).name
    return kind_of(shape_of(model)) if family == SAM else family


def read_pair(
    adapted: str, reference: str | None, device: str, image_size: int | None
) -> tuple[nn.Module, nn.Module | None]:
    """Load the model to prune, and the checkpoint that it was fine-tuned from, with the same input side.

    Where the model was pruned before, the reference is cut by the same plan, so that both still correspond.
    """
    model = read_model(adapted, device=device, image_size=image_size)
    if reference is None and adapted != POCKET:
        return model, None
    side = geometry_of(model).image_size
    base = read_model(reference or POCKET, "reference", device=device, image_size=side)
    return model, aligned(base, model)


def aligned(reference: nn.Module, model: nn.Module) -> nn.Module:
    """Return what corresponds to a model parameter by parameter: a whole reference of a cut model is cut likewise."""
    plan = lineage_of(model).plan
    if plan is not None and lineage_of(reference).plan is None and plan.removed("heads") + plan.removed("neurons"):
        reference = prune(reference, plan)
    require_aligned(model, reference)
    return reference


@dataclass(frozen=True)
class ImageOptions:
    """Which images are read: `--data` words, or phantoms where there are none; `split_seed` is of a new split.

    `reading` says how the folders are read.
    """

    data: tuple[str, ...] = ()
    split_seed: int = 0
    reading: Reading = AS_IT_IS

    @property
    def is_phantom(self) -> bool:
        """Whether the images are drawn by this package."""
        return not self.data

    @cached_property
    def _named(self) -> dict[str, Named]:
        return parse_data(self.data)

    def sets(self) -> dict[str, SampleSet]:
        """Open the folders; every problem of every folder is said at once."""
        return open_data(self._named, self.reading)

    def files(self) -> list[Path]:
        """The files of boxes."""
        return [each.boxes for each in self._named.values() if each.boxes is not None]

    def roles(self, checkpoint: str, phantom_counts: Mapping[str, int]) -> Split:
        """Return train, validation and test images, and say where the roles come from.

        The split beside the checkpoint is taken where there is one of the same sets, and refused where the folders no
        longer fit it. `phantom_counts` are images of each phantom set, by role.
        """
        if self.is_phantom:
            click.echo(f"images: phantoms ({', '.join(PHANTOM_SETS)}); give --data NAME=DIR for your own", err=True)
            return phantom_split(phantom_counts)
        sets = self.sets()
        split, known = split_beside(sets, None if is_word(checkpoint) else checkpoint, self.split_seed)
        where = f"the one beside {checkpoint}" if known else f"a new one, --split-seed {self.split_seed}"
        own = [name for name, samples in sets.items() if own_roles(samples)]
        where += f", and the own one of {', '.join(own)}" if own and not known else ""
        counted = "; ".join(_counted(role, part) for role, part in split.roles().items())
        click.echo(f"split: {where}; {counted}", err=True)
        return split

    def role(self, role: str, checkpoints: list[str], most: int | None) -> dict[str, SampleSet]:
        """Return the images of one role, or `all` of them; what a checkpoint was trained on is refused."""
        if role == "all":
            chosen = self.sets() if self.data else phantom_split({"test": most or PHANTOM_TEST}).test
        else:
            chosen = self.roles(checkpoints[0], {role: most or PHANTOM_TEST}).roles()[role]
        if not any(len(samples) for samples in chosen.values()):
            raise DataError(f"there is no {role} image in this split: use --role all, or another split")
        for checkpoint in checkpoints:
            refuse_seen(chosen, checkpoint)
        return chosen if most is None else {name: at_most(samples, most) for name, samples in chosen.items()}


def _counted(role: str, sets: Mapping[str, SampleSet]) -> str:
    return f"{role} " + (", ".join(f"{len(part)} of {name}" for name, part in sets.items()) or "none")


def phantom_split(counts: Mapping[str, int]) -> Split:
    """Draw phantom polyps, so many of each set by role, apart from the images that the pocket pair was trained on."""
    drawn: dict[str, dict[str, SampleSet]] = {
        role: {name: phantoms.make(name, seed=seed, count=counts[role]) for name in PHANTOM_SETS if role in counts}
        for role, seed in _PHANTOM_SEEDS.items()
    }
    return Split(drawn["train"], drawn["validation"], drawn["test"], 0, (0.7, 0.1, 0.2))


def phantoms_tell(model: nn.Module) -> bool:
    """Whether drawn images tell something about a model: not about a published SAM."""
    return model_kind(model) in (POCKET, "custom")


def require_own_images(models: Iterable[nn.Module], images: ImageOptions) -> None:
    """Refuse to calibrate, train or judge a published SAM on drawn images."""
    if not images.is_phantom:
        return
    for model in models:
        if not phantoms_tell(model):
            kind = model_kind(model)
            raise DataError(f"a {kind} needs images of yours: give --data NAME=DIR; phantoms tell it nothing")


def say_notice(images: ImageOptions) -> None:
    """Say what phantom results are not."""
    if images.is_phantom:
        click.echo(NOTICE)


def data_record(split: Split) -> dict[str, Any]:
    """One hash for each role's images of each data set, as JSON, and which are drawn."""

    def about(part: SampleSet) -> dict[str, Any]:
        drawn = {"synthetic": True} if is_synthetic(part) else {}
        return {"images": len(part), "sha256": subset_hash(part), **drawn}

    return {role: {name: about(part) for name, part in sets.items()} for role, sets in split.roles().items()}


_MODEL_SUFFIXES = (".safetensors", ".pth", ".pt")


def require_suffix(out: Path, *suffixes: str) -> None:
    """Refuse a name for `--out` that ends otherwise, before the work and not after it."""
    if out.suffix not in suffixes:
        raise CheckpointError(f"--out {out}: expected a name that ends in {' or '.join(suffixes)}")


def check_outputs(
    read: Iterable[str | Path | None],
    overwrite: bool,
    out: Path,
    *beside: Path | None,
    state: Path | None = None,
    resume: bool = True,
) -> Results:
    """Refuse outputs that cannot be written, that are read, or that are there, before the work.

    `out` is the model, `beside` are further files that are to be made, `state` is kept while the work goes on, which
    `resume` goes on with. The split beside the model is held against what is there once the images are known: see
    `check_split`; what this command wrote before, once its inputs are: see `Results.done`.
    """
    require_writable(out, *beside, split_file(out), state)
    refuse_overwriting(tuple(read), out, *beside, split_file(out), state)
    refuse_folders(split_file(out), state)
    # a run that goes on was allowed to write there when it began
    allowed = overwrite or (resume and state is not None and state.exists())
    return Results(Journal.beside(out, overwrite), (out, *beside), allowed, overwrite or not resume)


def check_split(roles: Split, out: Path, overwrite: bool) -> None:
    """Refuse to replace a split that another model beside it needs, or without being asked to."""
    place = split_file(out)
    if not place.is_file() or roles.is_stored(place):
        return
    models = (out.with_suffix(suffix) for suffix in _MODEL_SUFFIXES)
    for model in models:
        if model != out and model.is_file():
            raise WriteError(f"{place} is the split of {model}, and this one differs: choose another name for --out")
    refuse_existing(overwrite, place)
