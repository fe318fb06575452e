"""The work of a correction: the streams of all networks carried block by block, one layer of each fitted at a time.

However many models were cut from one teacher, the teacher runs each of its blocks once: what a layer adds to its stream
is the target of that layer in all of them.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from .._support.errors import SurgeryError
from .._support.progress import track
from ..models.families import blocks_of
from ..models.family import Block
from .block_fit import BlockFitter
from .cut_model import CutModel
from .images import Batch, CorrectionImages
from .settings import TARGETS, CorrectionSettings
from .streams import ADDING_LAYERS, Shapes, Stream, check_streams, first_tokens, observe_both, passed

_DENSE, _OUTPUT = "dense", "output"


def dense_streams(settings: CorrectionSettings) -> int:
    """How many streams are carried of the teacher: its own, and what `lin2` gives where the target reads that."""
    return 1 + (TARGETS[settings.target].reads == "output")


def state_shapes(teacher: nn.Module, images: int, settings: CorrectionSettings, models: int = 1) -> Shapes:
    """Return shape and dtype of the room for all streams that are carried, at least float32.

    An image's tokens lie in a row of it, wherever in the encoder they are: it is as long as they are at most.
    """
    shape = (images, max(block.tokens_side**2 * block.width for block in blocks_of(teacher)))
    dtype = torch.promote_types(next(teacher.parameters()).dtype, torch.float32)
    names = [_DENSE, _OUTPUT][: dense_streams(settings)]
    return dict.fromkeys((*names, *map(_name, range(models))), (shape, dtype))


def _name(place: int) -> str:
    return f"cut-{place}"


class CorrectionRun:
    """Carries the streams of a teacher and of models cut from it, in room for `state_shapes`, and fits the models.

    Weights are written as they are fitted; `cuts` say what came of it.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        teacher: nn.Module,
        images: CorrectionImages,
        states: Mapping[str, Tensor],
        settings: CorrectionSettings,
        fitter: BlockFitter | None = None,
    ) -> None:
        self._teacher, self._blocks = teacher, blocks_of(teacher)
        self._images, self._settings, self._fitter = images, settings, fitter
        self._reads = TARGETS[settings.target].reads
        self._dense = Stream(states[_DENSE], teacher)
        self._output = Stream(states.get(_OUTPUT, states[_DENSE]), teacher)
        count = sum(images.counts.values())
        self.cuts = [CutModel(model, states[_name(place)], settings, count) for place, model in enumerate(models)]

    def run(self, progress: bool) -> None:
        """Fit block after block."""
        each = len(ADDING_LAYERS) + len(self.cuts) * (self._settings.fit_steps if self._fitter else 0)
        for _ in track(self._work(), "correction", total=len(self._blocks) * each, show=progress):
            pass

    def _work(self) -> Iterator[None]:
        """Yield after each layer and each step."""
        for dense in self._blocks:
            for role in ADDING_LAYERS:
                self._fit(dense, role)
                yield
            for cut in self.cuts:
                if self._fitter:
                    yield from cut.fit_block(self._fitter, dense, self._dense)
                cut.advance(dense.index, self._images.batches)
            if dense.then is not None:
                for batch in self._images.batches:
                    self._dense.write(batch.rows, passed(dense, self._dense.read(dense, batch.rows)))

    def read_images(self, progress: bool) -> None:
        """Bring all networks to their first block, which must read (B, h, w, D), and weigh the tokens."""
        batches, first = self._images.batches, self._blocks[0]
        networks = [(self._teacher, self._dense), *((cut.model, cut.stream) for cut in self.cuts)]
        read = self._images.read(batches)
        for batch, (images, boxes, owner) in track(read, "reading images", total=len(batches), show=progress):
            wanted = (len(images), first.tokens_side, first.tokens_side, first.width)
            for model, stream in networks:
                tokens = first_tokens(model, images)
                if tokens.shape != wanted:
                    raise SurgeryError(
                        f"the blocks of {type(model).__name__} read tokens in a row, {_shown(tokens.shape)}: expected "
                        f"a square of patches without class tokens, {_shown(wanted)}; leave out the correction"
                    )
                stream.write(batch.rows, tokens)
            if batch is batches[0]:
                check_streams(self._teacher, images[:1])
            self._images.weigh(batch, images, boxes, owner)

    def _fit(self, dense: Block, role: str) -> None:
        """Fit `"proj"` or `"lin2"` of a block of all models, in this order."""
        fits = [cut.fit_of(dense, role) for cut in self.cuts]
        for batch in self._images.batches:
            wanted = self._wanted(dense, batch, role)
            weights = self._images.weights(batch).get(dense.layer_names[role])
            for fit in fits:
                fit.add(wanted, weights, batch)
        for cut, fit in zip(self.cuts, fits, strict=True):
            cut.layers.append(fit.solve())

    def _wanted(self, dense: Block, batch: Batch, role: str) -> Tensor:
        """What the target reads of a layer of the teacher.

        At `proj` the block runs as a whole: its stream is behind it from then on, which is where `lin2` leaves it.
        """
        if role == "lin2":
            return (self._dense if self._reads == "after" else self._output).read(dense, batch.rows)
        seen = observe_both(self._teacher, dense, self._dense.read(dense, batch.rows))
        added = {name: observed.added for name, observed in seen.items()}
        wanted: Tensor = getattr(added["proj"], self._reads)
        self._dense.write(batch.rows, added["lin2"].after)
        if self._reads == "output":
            self._output.write(batch.rows, added["lin2"].output)
        return wanted

    def stream_errors(self) -> list[float]:
        """Relative distance of each model's stream from the teacher's, over all images."""
        return [self._error(cut.stream) for cut in self.cuts]

    def _error(self, stream: Stream) -> float:
        sums = []
        for batch in self._images.batches:
            dense, cut = (each.read(self._blocks[-1], batch.rows).double() for each in (self._dense, stream))
            counts = torch.tensor(self._images.samples_of[batch.rows], dtype=torch.float64, device=dense.device)
            sums.append(torch.stack([each.square().flatten(1).sum(1) @ counts for each in (dense - cut, dense)]))
        # read once, so that no batch waits for the one before
        error, norm = map(sum, zip(*torch.stack(sums).tolist(), strict=True))
        return (error / max(norm, 1e-300)) ** 0.5


def _shown(shape: Sequence[int]) -> str:
    return f"({', '.join(['B', *map(str, shape[1:])])})"
