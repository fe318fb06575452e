"""Whether a pruned model may have been cut from another model, which then can teach it."""

from torch import nn

from ._support.errors import SurgeryError
from .encoders import blocks_of, geometry_of

_WANTED = "give the model that it was cut from"


def require_cut_from(small: nn.Module, teacher: nn.Module) -> None:
    """Refuse a teacher that the pruned model cannot come from; the two in the wrong order are the commonest such.

    Args:
        small: The pruned model; it may be whole.
        teacher: The model before the cut.

    Raises:
        SurgeryError: One object, other sizes, other attention windows, or a block of the teacher with fewer heads or
            neurons.
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
        if mine.num_heads > other.num_heads or mine.neurons > other.neurons:
            raise SurgeryError(
                f"the pruned model cannot be cut from its teacher: block {mine.index} has {mine.num_heads} heads and "
                f"{mine.neurons} neurons, the teacher's {other.num_heads} and {other.neurons}: give the pruned model "
                "first, and as teacher the model that it was cut from"
            )
