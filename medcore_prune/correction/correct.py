"""Training-free correction: after a cut, fit what is left of each layer to what the unpruned network computes.

For each block in order, `proj` and then `lin2`, with X the kept inputs in the cut network, corrected so far, and T a
target taken from the dense network on the same tokens (METHOD section 12):

    (X' X + r I) W = X' T + r W_old,   r = ridge * mean diagonal of X' X

In blocks with few heads left the heads' values are fitted together with `proj` (`attention_values`). All sums are
means over tokens within a data set, then over data sets, so that each set weighs the same. No label is read and nothing
is trained, unless `fit_steps` asks for a fit of whole blocks (`block_fit`), which reads no label either.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from .._support.devices import refuse_half, require_default_dtype
from .._support.errors import StatisticsError, SurgeryError
from ..data.splits.split import Data, training_samples
from ..models.calls.altered import refuse_hooked
from ..models.calls.call import on_models, undisturbed, working_on
from ..models.families import blocks_of
from ..models.pairs import require_cut_from
from ..models.switches import evaluating
from .block_fit import BlockFitter
from .images import CorrectionImages, kept_bytes
from .run import CorrectionRun, dense_streams, state_shapes
from .settings import CorrectionReport, CorrectionSettings
from .streams import bytes_of, room_for, room_on
from .token_weights import adding_layers

_GIGABYTE = 1e9


TOGETHER = 8
"""Models of one teacher that are corrected at the same time, at most: an eighth of its work is then each one's."""


class Corrector:
    """Corrects models that were cut from one teacher, as `correct` does; tokens are weighed once for all of them.

    With `keep`, for many models, images stay in memory from the first correction on, as long as they fit into
    `memory_limit_gb`.
    """

    def __init__(
        self,
        teacher: nn.Module,
        data: Data,
        settings: CorrectionSettings,
        samples: int = 64,
        seed: int = 0,
        batch_size: int = 8,
        memory_limit_gb: float = 4.0,
        progress: bool = True,
        keep: bool = False,
    ) -> None:
        if settings.weighting != "none" and not hasattr(teacher, "prompt_encoder"):
            raise SurgeryError(
                f"the teacher is an encoder alone, and weighting {settings.weighting!r} reads its masks: give the "
                "whole model, or weighting='none'"
            )
        if batch_size < 1:
            raise StatisticsError(f"batch_size is {batch_size}: expected at least 1")
        self._teacher, self._settings, self._progress = teacher, settings, progress
        self._memory_limit = memory_limit_gb * _GIGABYTE
        drawn = training_samples(data, "correction", samples, seed)
        keep = keep and kept_bytes(teacher, sum(len(images) for images in drawn.values())) <= self._memory_limit
        self._images = CorrectionImages(teacher, drawn, settings.weighting, batch_size, keep)
        self._fitter = BlockFitter(self._images, settings, seed, batch_size) if settings.fit_steps else None

    def correct(self, small: nn.Module) -> CorrectionReport:
        """Correct one pruned model in place; all or nothing, as `medcore_prune.correct` says."""
        return self.correct_all([small])[0]

    def correct_all(self, smalls: Sequence[nn.Module]) -> list[CorrectionReport]:
        """Correct pruned models in place, all or none of them, each as if it were alone.

        As many at the same time, up to `TOGETHER`, as the memory for streams has room for: the teacher then runs once
        for all of them.
        """
        with working_on(*smalls, self._teacher, refuse=refuse_hooked), undisturbed():
            return self._corrected(smalls)

    def _corrected(self, smalls: Sequence[nn.Module]) -> list[CorrectionReport]:
        for small in smalls:
            _check_pair(small, self._teacher, self._settings.bias)
        together, reports = self._together(), list[CorrectionReport]()
        with (
            _restored_on_error(smalls, whole_blocks=self._settings.fit_steps > 0),
            evaluating(self._teacher, *smalls),
            torch.no_grad(),
        ):
            for start in range(0, len(smalls), together):
                reports += self._correct(smalls[start : start + together])
        # a block around the call would run the old weights that it has cast already
        torch.clear_autocast_cache()
        return reports

    @property
    def _device(self) -> torch.device:
        return next(self._teacher.parameters()).device

    def _together(self) -> int:
        """How many models' streams fit beside the teacher's: on its device, or else into the limit."""
        alone = state_shapes(self._teacher, len(self._images), self._settings)
        each, own = bytes_of(alone) / len(alone), dense_streams(self._settings)
        there = room_on(self._device)
        room = there if bytes_of(alone) <= there else self._memory_limit
        return max(1, min(TOGETHER, int(room / max(each, 1)) - own))

    def _correct(self, smalls: Sequence[nn.Module]) -> list[CorrectionReport]:
        """Correct models at the same time."""
        start = time.perf_counter()
        shapes = state_shapes(self._teacher, len(self._images), self._settings, len(smalls))
        with room_for(shapes, self._memory_limit, self._device) as states:
            run = CorrectionRun(smalls, self._teacher, self._images, states, self._settings, self._fitter)
            run.read_images(self._progress)
            run.run(self._progress)
            errors = run.stream_errors()
        seconds = (time.perf_counter() - start) / len(smalls)
        counts, settings = self._images.counts, self._settings
        return [
            CorrectionReport(settings, tuple(cut.layers), counts, error, bytes_of(shapes), seconds, tuple(cut.blocks))
            for cut, error in zip(run.cuts, errors, strict=True)
        ]


@on_models("small", "teacher", refuse=refuse_hooked)
def correct(
    small: nn.Module,
    teacher: nn.Module,
    data: Data,
    *,
    samples: int = 64,
    seed: int = 0,
    ridge: float = 1e-3,
    weighting: str = "gradient_norm",
    target: str = "stream",
    bias: bool = False,
    values: bool = True,
    fit_steps: int = 0,
    fit_learning_rate: float = 1e-3,
    batch_size: int = 8,
    memory_limit_gb: float = 4.0,
    progress: bool = True,
) -> CorrectionReport:
    """Fit `proj` and `lin2` of every block of a pruned model to the unpruned one, in place and without labels.

    All or nothing: when anything fails, the pruned model is as it was. An `autocast` block around the call has no
    part in it.

    Args:
        small: The pruned model, at any level, also a recovered one. Only weights of `proj` and `lin2` change, their
            biases where `bias` is set, and what `values` and `fit_steps` say.
        teacher: The model that it was cut from; left as it is.
        data: A split, whose training part is drawn from as `calibrate` draws, or training samples by data set.
        samples: Images drawn from each data set; a smaller set is taken whole.
        seed: Of the draw, and of what `fit_steps` does.
        ridge: Pull towards the weights left by the cut, relative to the mean diagonal of X' X; at least 0.
        weighting: A name in `token_weights.WEIGHTINGS`, `"none"` for all tokens alike. The others take a whole `Sam` as
            teacher and cost a forward and a backward pass of it at most; none reads a label.
        target: `"stream"` takes the cut network's residual stream to the dense one's; `"layer"` asks the layer alone
            to give what it gives in the dense network.
        bias: Fit the biases too.
        values: In blocks with few heads left, fit the heads' values together with `proj`, by reduced-rank regression
            (`attention_values`): the value rows of `qkv` and the bias of `proj` change too.
        fit_steps: Steps of Adam that fit all weights of a block together, norms and relative positions too, to the
            dense stream behind it, after its least squares and before the next block's; 0 for none. Each reads eight
            of the images, and needs the memory of one block's backward pass. An eighth of each data set, at least one
            image and in whole groups, is held out and chooses among the weights on the way, those of the least
            squares included. Running statistics stay as they are.
        fit_learning_rate: Of the first step, above 0; it falls to 0 along a cosine.
        batch_size: Images at a time; changes the result by rounding alone.
        memory_limit_gb: Residual streams beyond this many gigabytes go to a memory-mapped temporary file. They take
            2 * 4 bytes * images * tokens * channels: 25 MB an image for ViT-B at 1024 pixels. On a GPU they stay there,
            as long as they fit into half of its free memory.
        progress: Show how far it is.

    Returns:
        The relative residual of every layer before and after, the error of every fitted block, tokens used, seconds.

    Raises:
        SurgeryError: The two models do not belong together, or their blocks do not read patches as a square, (B, h, w,
            D), as those of plain vision transformers with class tokens do not; or a part of one was compiled, patched
            or hooked.
        StatisticsError: A setting that cannot be, values that are not finite, or equations without a solution,
            or `fit_steps` where no data set has two groups of images.
        DataError: No data, or an image that cannot be used.
        MedcorePruneError: A model is of half precision, or torch's default dtype is not float32.
    """
    settings = CorrectionSettings(ridge, weighting, target, bias, values, fit_steps, fit_learning_rate)
    corrector = Corrector(teacher, data, settings, samples, seed, batch_size, memory_limit_gb, progress)
    return corrector.correct(small)


def _check_pair(small: nn.Module, teacher: nn.Module, bias: bool) -> None:
    require_default_dtype()
    require_cut_from(small, teacher)
    refuse_half(small, "pruned model")
    refuse_half(teacher, "teacher")
    if bias and (bare := [name for name, layer in adding_layers(small).items() if layer.bias is None]):
        raise SurgeryError(f"{bare[0]} has no bias to fit: leave bias=False")


@contextmanager
def _restored_on_error(smalls: Sequence[nn.Module], whole_blocks: bool) -> Iterator[None]:
    """Keep what is going to be written, and put it back when the block raises, be it by the user's interrupt."""
    written: list[nn.Module] = []
    for small in smalls:
        blocks = blocks_of(small)
        layers = [block.layers[role] for block in blocks for role in (*block.head_inputs, "proj", "lin2")]
        written += [small.get_submodule(block.name) for block in blocks] if whole_blocks else layers
    kept = [(parameter, parameter.detach().clone()) for module in written for parameter in module.parameters()]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        raise
