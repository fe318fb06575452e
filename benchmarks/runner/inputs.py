"""Models and images of a comparison: loaded, checked against each other, and hashed, before any work starts."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from socket import gethostname

from torch import nn

from ..._support.devices import require_device
from ..._support.errors import CheckpointError, DataError, MedcorePruneError
from ...commands.work.folders import open_data, parse_data
from ...commands.work.inputs import POCKET, aligned, model_kind, read_model
from ...data import phantoms
from ...data.frame import Frame
from ...data.samples import SampleSet, at_most, subset_hash
from ...data.splits.beside import refuse_seen, split_beside
from ...data.splits.split import FRACTIONS, Split
from ...models.families import geometry_of
from ...models.fingerprint import model_hash
from ...zoo import is_word, pocket
from .settings import Settings

Sets = Mapping[str, SampleSet]

# roles of phantom images, apart from the seeds that the pocket pair was trained with
_TEST_SEED, _VALIDATION_SEED, _CALIBRATION_SEED, _NEXT_DRAW = 0, 1, 2, 10
_TRAINING_SEED, _RECOVERY_VALIDATION_SEED = 3, 4
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Inputs:
    """What a comparison works on.

    Attributes:
        adapted: The model that is pruned.
        reference: The checkpoint that it was fine-tuned from, if there is one.
        sets: Data set name to the images that are evaluated.
        calibration: Number of a draw to its calibration samples.
        is_phantom: Whether the images are drawn by this package.
        is_pocket: Whether the models are the pocket pair that comes with it.
        roles: The same data by role: a recovery trains on `train` and is chosen by `validation`.
        notes: Data set name to what was noticed when its folder was read, files that were left out among it.
    """

    adapted: nn.Module
    reference: nn.Module | None
    sets: Sets
    calibration: Callable[[int], Sets]
    is_phantom: bool
    is_pocket: bool
    roles: Split
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def frame(self) -> Frame:
        """How images lie in the models' input."""
        return geometry_of(self.adapted).frame

    @property
    def kind(self) -> str:
        """What the models are called."""
        return model_kind(self.adapted)

    @cached_property
    def hashes(self) -> dict[str, str | None]:
        """SHA-256 of both models, of every test set, and of the first calibration sample."""
        hashes: dict[str, str | None] = {"adapted": model_hash(self.adapted)}
        hashes["reference"] = None if self.reference is None else model_hash(self.reference)
        hashes |= {f"data/{name}": subset_hash(samples) for name, samples in self.sets.items()}
        return hashes | {"calibration": sample_hash(self.calibration(0))}


@lru_cache(maxsize=1)
def inputs_again(settings: Settings, hashes: tuple[tuple[str, str | None], ...]) -> Inputs:
    """Load inputs in another process, on another machine perhaps, and refuse those that are not the same."""
    inputs = load_inputs(settings)
    if other := [name for name, expected in hashes if inputs.hashes.get(name) != expected]:
        raise DataError(
            f"worker on {gethostname()}: {', '.join(other)} is not what the command reads: expected the same files at "
            "the same places on all machines"
        )
    return inputs


def sample_hash(sets: Sets) -> str:
    """SHA-256 over data sets, e.g. of a calibration sample."""
    return hashlib.sha256("".join(subset_hash(samples) for samples in sets.values()).encode()).hexdigest()


def load_inputs(settings: Settings) -> Inputs:
    """Load models and data and check all of it.

    Raises:
        MedcorePruneError: A checkpoint, the pair's alignment, or the data cannot be used as they are.
    """
    require_device(settings.device)
    adapted, reference = load_models(settings)
    folders = _folders(settings) if settings.data else {}
    frame = geometry_of(adapted).frame
    sets, calibration, roles = _real(settings, folders, frame) if folders else _phantom(settings)
    notes = {name: tuple(getattr(samples, "notes", ())) for name, samples in folders.items()}
    return Inputs(adapted, reference, sets, calibration, not folders, _is_pocket(settings), roles, notes)


def _is_pocket(settings: Settings) -> bool:
    """Whether the built-in model is asked for, or nothing is; of a user's images somebody must have asked for it."""
    if settings.adapted is None and settings.data:
        raise CheckpointError(
            f"--data names images of yours, but no model is named: give --adapted FILE; --adapted {POCKET} is the "
            "built-in phantom model"
        )
    return _built_in(settings.adapted)


def _built_in(model: str | None) -> bool:
    return model is None or (model == POCKET and is_word(POCKET))


def load_models(settings: Settings) -> tuple[nn.Module, nn.Module | None]:
    """Load the adapted model and, where there is one, its reference, cut likewise where the model was cut before.

    Raises:
        MedcorePruneError: A checkpoint is missing or unusable, or the two do not align.
    """
    if settings.adapted is None and not _built_in(settings.reference):
        raise MedcorePruneError("--reference needs the checkpoint that was fine-tuned from it: give --adapted FILE")
    if _is_pocket(settings) and _built_in(settings.reference):
        return pocket("adapted", settings.device), pocket("reference", settings.device)
    assert settings.adapted is not None, "or it is the built-in one"
    adapted = read_model(settings.adapted, device=settings.device)
    if settings.reference is None:
        return adapted, None
    size = geometry_of(adapted).image_size
    reference = read_model(settings.reference, "reference", image_size=size, device=settings.device)
    return adapted, aligned(reference, adapted)


def _phantom(settings: Settings) -> tuple[Sets, Callable[[int], Sets], Split]:
    counts, names = settings.counts, settings.phantom_sets
    seed = _VALIDATION_SEED if settings.role == "validation" else _TEST_SEED

    @cache
    def draw(number: int) -> Sets:
        own = _CALIBRATION_SEED + _NEXT_DRAW * number
        return {name: phantoms.make(name, seed=own, count=counts.calibration) for name in names}

    def made(of_role: int, count: int) -> dict[str, SampleSet]:
        return {name: phantoms.make(name, seed=of_role, count=count) for name in names}

    sets, few = made(seed, counts.phantom_images), settings.validation or counts.validation
    training, validation = made(_TRAINING_SEED, counts.training), made(_RECOVERY_VALIDATION_SEED, few)
    return sets, draw, Split(training, validation, sets, settings.split_seed, FRACTIONS)


def _folders(settings: Settings) -> Sets:
    named = parse_data(settings.data)
    if bad := [name for name in named if not _NAME.fullmatch(name)]:
        raise DataError(f"data set name {bad[0]!r}: expected letters, digits, '.', '_' and '-' (it names files)")
    return open_data(named, settings.reading)


def _file(model: str | None) -> str | None:
    """A checkpoint, which a split may lie beside; None for a built-in model."""
    return None if model is None or is_word(model) else model


def _real(settings: Settings, folders: Sets, frame: Frame) -> tuple[Sets, Callable[[int], Sets], Split]:
    roles, _ = split_beside(folders, _file(settings.adapted), settings.split_seed)
    chosen = roles.roles()[settings.role]
    for checkpoint in (settings.adapted, settings.reference):
        refuse_seen(chosen, _file(checkpoint))
    most = settings.counts.real_images
    sets = {name: samples if most is None else at_most(samples, most) for name, samples in chosen.items()}
    if settings.validation is not None:
        few = {name: at_most(samples, settings.validation) for name, samples in roles.validation.items()}
        roles = replace(roles, validation=few)
    return sets, cache(lambda number: roles.calibration(settings.counts.calibration, number, frame)), roles
