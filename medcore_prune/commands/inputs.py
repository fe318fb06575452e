"""Models and images of a command: found, loaded and checked before any work starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from torch import nn

from .._support.errors import CheckpointError, DataError, WriteError
from .._support.files import refuse_existing, refuse_folders, refuse_overwriting, require_writable
from ..checkpoints.header import is_pruned_file
from ..checkpoints.pruned import load
from ..checkpoints.sam import load_sam
from ..data import phantoms
from ..data.folders.folder import named_folders, parse_named
from ..data.samples import SampleSet, at_most, subset_hash
from ..data.splits.beside import refuse_seen, split_beside, split_file
from ..data.splits.split import Split
from ..evaluation.estimates import Estimate, require_memory
from ..models.families import geometry_of
from ..models.pairs import require_aligned
from ..models.switches import set_attention, set_checkpointing
from ..pruning.surgery import lineage_of, prune
from ..zoo import NOTICE, pocket
from .options import DEFAULT_ATTENTION

POCKET = "pocket"
PHANTOM_SETS = ("phantom_polyp_a", "phantom_polyp_b", "phantom_polyp_c")
_PHANTOM_SEEDS = {"train": 3, "validation": 1, "test": 0}
PHANTOM_COUNTS = {"train": 32, "validation": 6}
"""Phantoms of each set that `prune` and `recover` work on; calibration draws from the first."""
PHANTOM_TEST = 12
"""Phantoms of each set that `evaluate` reports on."""


@dataclass(frozen=True)
class ModelOptions:
    """How model files are read.

    Attributes:
        kind: A name in `encoders.SHAPES`, for files that do not know it.
        image_size: Another input side in pixels than the model's own.
        device: Where models go.
        attention: How attention is computed, see `set_attention`.
        checkpointing: Whether backward passes recompute blocks, see `set_checkpointing`.
    """

    kind: str = POCKET
    image_size: int | None = None
    device: str = "cpu"
    attention: str = DEFAULT_ATTENTION
    checkpointing: bool = False

    def read(self, place: str, role: str = "adapted") -> nn.Module:
        """Load a model from what was named on the command line.

        Args:
            place: A file of this tool, a SAM or MedSAM checkpoint, or `pocket`.
            role: Which of the pocket pair `pocket` is.

        Returns:
            A `Sam` in float32.

        Raises:
            CheckpointError: The file cannot be used, or an image size was asked for that its weights are not of.
        """
        return set_checkpointing(set_attention(self._read(place, role), self.attention), self.checkpointing)

    def _read(self, place: str, role: str) -> nn.Module:
        if place == POCKET and not Path(place).exists():
            if self.kind != POCKET:
                raise CheckpointError(f"--model {self.kind} needs a checkpoint: give the file in place of `pocket`")
            return pocket("reference" if role == "reference" else "adapted", self.device, self.image_size)
        if not is_pruned_file(place):
            return load_sam(self.kind, place, device=self.device, image_size=self.image_size)
        model = load(place, self.device)
        if self.image_size not in (None, geometry_of(model).image_size):
            raise CheckpointError(
                f"{place} is for {geometry_of(model).image_size} px: leave --image-size out, or prune again at another"
            )
        # half precision is for storage: segment-anything computes positions in float32
        return model.float()


def read_pair(options: ModelOptions, adapted: str, reference: str | None) -> tuple[nn.Module, nn.Module | None]:
    """Load the model to prune, and the checkpoint that it was fine-tuned from.

    Where the model was pruned before, the reference is cut by the same plan, so that both still correspond.

    Raises:
        MedcorePruneError: A file cannot be used, or the two do not align.
    """
    model = options.read(adapted)
    if reference is None and adapted != POCKET:
        return model, None
    base = options.read(reference or POCKET, "reference")
    plan = lineage_of(model).plan
    if plan is not None and lineage_of(base).plan is None and plan.removed("heads") + plan.removed("neurons"):
        base = prune(base, plan)
    require_aligned(model, base)
    return model, base


@dataclass(frozen=True)
class ImageOptions:
    """Which images are read.

    Attributes:
        data, boxes: `NAME=PLACE` words; no data means phantoms.
        layout: Of the folders.
        split_seed: Of a new split.
    """

    data: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    layout: str = "auto"
    split_seed: int = 0

    @property
    def is_phantom(self) -> bool:
        """Whether the images are drawn by this package."""
        return not self.data

    def sets(self) -> dict[str, SampleSet]:
        """Open the folders.

        Raises:
            DataError: Every problem of every folder at once.
        """
        return named_folders(parse_named(self.data), self.layout, parse_named(self.boxes, "--boxes"))

    def files(self) -> list[Path]:
        """The files of boxes.

        Raises:
            DataError: Words that are no `NAME=CSV`.
        """
        return list(parse_named(self.boxes, "--boxes").values())

    def roles(self, checkpoint: str, phantom_counts: Mapping[str, int]) -> Split:
        """Return train, validation and test images, and say where the roles come from.

        Args:
            checkpoint: The split beside it is taken where there is one of the same sets.
            phantom_counts: Images of each phantom set, by role.

        Raises:
            DataError: Folders that cannot be used, or a known split that they no longer fit.
        """
        if self.is_phantom:
            if self.boxes:
                raise DataError("--boxes goes with --data: phantom images have boxes of their own")
            click.echo(f"images: phantoms ({', '.join(PHANTOM_SETS)}); give --data NAME=DIR for your own", err=True)
            return phantom_split(phantom_counts)
        split, known = split_beside(self.sets(), None if checkpoint == POCKET else checkpoint, self.split_seed)
        where = f"the one beside {checkpoint}" if known else f"a new one, --split-seed {self.split_seed}"
        counted = "; ".join(_counted(role, part) for role, part in split.roles().items())
        click.echo(f"split: {where}; {counted}", err=True)
        return split

    def role(self, role: str, checkpoints: list[str], most: int | None) -> dict[str, SampleSet]:
        """Return the images of one role, or `all` of them; what a checkpoint was trained on is refused.

        Raises:
            DataError: As for `roles`; images that were trained on; no image in the role.
        """
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
    """Draw phantom polyps apart from the images that the pocket pair was trained on.

    Args:
        counts: Images of each set, by role; a role that is not named has none.
    """
    drawn: dict[str, dict[str, SampleSet]] = {
        role: {name: phantoms.make(name, seed=seed, count=counts[role]) for name in PHANTOM_SETS if role in counts}
        for role, seed in _PHANTOM_SEEDS.items()
    }
    return Split(drawn["train"], drawn["validation"], drawn["test"], 0, (0.7, 0.1, 0.2))


def require_own_images(options: ModelOptions, images: ImageOptions) -> None:
    """Refuse to calibrate or train a model of one's own on drawn images.

    Raises:
        DataError: No data for another model than the pocket pair.
    """
    if options.kind != POCKET and images.is_phantom:
        raise DataError(f"--model {options.kind} needs images of yours: give --data NAME=DIR; phantoms tell it nothing")


def say_notice(images: ImageOptions) -> None:
    """Say what phantom results are not."""
    if images.is_phantom:
        click.echo(NOTICE)


def data_record(split: Split) -> dict[str, Any]:
    """One hash for each role's images of each data set, as JSON."""
    return {
        role: {name: {"images": len(part), "sha256": subset_hash(part)} for name, part in sets.items()}
        for role, sets in split.roles().items()
    }


def say_estimate(estimate: Estimate) -> None:
    """Say what long work will take before it starts, and refuse what does not fit into memory.

    Raises:
        MedcorePruneError: It does not fit; the message says what to do.
    """
    click.echo(str(estimate), err=True)
    require_memory(estimate)


_MODEL_SUFFIXES = (".safetensors", ".pth", ".pt")


def check_outputs(
    read: Iterable[str | Path | None], overwrite: bool, out: Path, *beside: Path | None, state: Path | None = None
) -> None:
    """Refuse outputs that cannot be written, that are read, or that are there, before the work.

    The split beside the model is held against what is there once the images are known: see `check_split`.

    Args:
        read: Files that the command reads; other words are passed over.
        overwrite: Whether what is there may be replaced.
        out: The model.
        beside: Further files that are to be made, or None.
        state: A file that is kept while the work goes on.

    Raises:
        WriteError: One line that names the file.
    """
    require_writable(out, *beside, split_file(out), state)
    refuse_overwriting(tuple(read), out, *beside, split_file(out), state)
    refuse_existing(overwrite, out, *beside)
    refuse_folders(split_file(out), state)


def check_split(roles: Split, out: Path, overwrite: bool) -> None:
    """Refuse to replace a split that another model beside it needs, or without being asked to.

    Raises:
        WriteError: Another split is there.
    """
    place = split_file(out)
    if not place.is_file() or roles.is_stored(place):
        return
    models = (out.with_suffix(suffix) for suffix in _MODEL_SUFFIXES)
    for model in models:
        if model != out and model.is_file():
            raise WriteError(f"{place} is the split of {model}, and this one differs: choose another name for --out")
    refuse_existing(overwrite, place)
