"""What a model comes from: whether it may have been cut from another, and the files that it was loaded from."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from .._support.errors import AlignmentError, SurgeryError
from .families import blocks_of, geometry_of

_PLACE = "_medcore_loaded_from"


def remember_place(model: nn.Module, path: object) -> None:
    """Make a model, and copies of it, remember the file that it was loaded from."""
    setattr(model, _PLACE, Path(str(path)).absolute())


def places_of(model: nn.Module) -> list[Path]:
    """Return the files that a model and its parts were loaded from, as far as they remember."""
    return list(dict.fromkeys(part.__dict__[_PLACE] for part in model.modules() if _PLACE in part.__dict__))


_TRAINED_ON = "_medcore_trained_on"


def remember_training(model: nn.Module, images: Mapping[str, str]) -> None:
    """Make a model, and copies of it, remember images it was trained on: SHA-256 of the pixels to a place to name."""
    setattr(model, _TRAINED_ON, {**trained_on(model), **images})


def trained_on(model: nn.Module) -> Mapping[str, str]:
    """Return what `remember_training` was told of a model and its parts."""
    found = (part.__dict__[_TRAINED_ON] for part in model.modules() if _TRAINED_ON in part.__dict__)
    return {digest: place for images in found for digest, place in images.items()}


_WANTED = "give the model that it was cut from"


def require_cut_from(small: nn.Module, teacher: nn.Module) -> None:
    """Refuse a teacher that the pruned model cannot come from; the two in the wrong order are the commonest such.

    They are one object, have other sizes or attention windows, or a block of the teacher has fewer heads or neurons.
    """
    if small is teacher:
        raise SurgeryError(f"the pruned model and its teacher are one object: {_WANTED}")
    ours, theirs = geometry_of(small), geometry_of(teacher)
    if ours != theirs:
        raise SurgeryError(f"the pruned model and its teacher differ in size, {ours} and {theirs}: {_WANTED}")
    blocks = blocks_of(small), blocks_of(teacher)
    windows = [[block.window for block in each] for each in blocks]
    if windows[0] != windows[1]:
        raise SurgeryError(f"the pruned model has attention windows {windows[0]}, its teacher {windows[1]}: {_WANTED}")
    for mine, other in zip(*blocks, strict=True):
        if (mine.width, mine.side) != (other.width, other.side):
            raise SurgeryError(
                f"the pruned model and its teacher differ in the tokens of block {mine.index}: {_WANTED}"
            )
        if mine.num_heads > other.num_heads or mine.neurons > other.neurons:
            raise SurgeryError(
                f"the pruned model cannot be cut from its teacher: block {mine.index} has {mine.num_heads} heads and "
                f"{mine.neurons} neurons, the teacher's {other.num_heads} and {other.neurons}: give the pruned model "
                "first, and as teacher the model that it was cut from"
            )


_SHOWN = 3


def differences(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> list[str]:
    """Say which names or shapes of tensors differ, a line each."""
    lines = [f"{name} is missing" for name in expected if name not in got]
    lines += [f"{name} is not expected" for name in got if name not in expected]
    lines += [
        f"{name} has shape {tuple(got[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in got and got[name].shape != value.shape
    ]
    return lines


def summary(lines: list[str]) -> str:
    """Join the first lines, and count the rest."""
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


def require_aligned(model: nn.Module, reference: nn.Module) -> None:
    """Check that a reference corresponds to the adapted model, parameter by parameter.

    Args:
        model: The adapted model, theta_M.
        reference: What it was fine-tuned from, theta_S.

    Raises:
        MedcorePruneError: A model of no known family.
        SurgeryError: A layer that pruning cuts has an adapter, which the other model need not have.
        AlignmentError: Names or shapes differ; the first differences are listed.
    """
    for each in (model, reference):
        blocks_of(each)
    if lines := differences(dict(model.named_parameters()), dict(reference.named_parameters())):
        raise AlignmentError(
            f"the reference does not align with the adapted model: {summary(lines)}; expected the checkpoint that it "
            "was fine-tuned from"
        )
