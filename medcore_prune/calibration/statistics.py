"""What calibration collected, of one adapted model and, where collected, of its reference."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from torch import Tensor, nn

from .._support.errors import StatisticsError
from ..defaults import DEFAULTS
from ..models.fingerprint import computation_hash
from .collector import Need, Role
from .collectors.directional import Direction
from .consistency import check_disjoint, check_same_weights, check_shapes, check_together
from .storage import Part, flat, load_parts, memory_part, save_parts
from .views import View, how_to_collect

Pair: TypeAlias = tuple[Tensor, Tensor]
Layers: TypeAlias = Mapping[str, Pair]


class Statistics:
    """Calibration statistics of one adapted model and, where collected, of its reference.

    Args:
        parts: Sums over samples; those of one kind, data set and role are added in the order given.

    Raises:
        StatisticsError: The parts do not belong together, or a sample is counted twice.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts: dict[tuple[str, str, str], list[Part]] = {}
        for part in parts:
            header = part.header
            found = self._parts.setdefault((header.kind, header.role, header.dataset), [])
            # every calibration brings its own copy of the reference's weights, which are no sum: one is kept
            if header.kind == "weights" and found:
                check_same_weights(found[0], part)
            else:
                found.append(part)
        check_together(self._parts)

    def __repr__(self) -> str:
        kinds = sorted({f"{kind} ({role})" for kind, role, _ in self._parts})
        return f"Statistics({self.counts}, holding {', '.join(kinds) or 'nothing'})"

    @property
    def parts(self) -> list[Part]:
        """All parts, those of one kind, role and data set in order."""
        return [part for parts in self._parts.values() for part in parts]

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets, in the order of calibration."""
        return list(dict.fromkeys(dataset for kind, _, dataset in self._parts if kind != "weights"))

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each data set."""
        return {name: len(self.samples(name)) for name in self.datasets}

    def samples(self, dataset: str) -> tuple[tuple[str, str], ...]:
        """(name, SHA-256 of image, mask and box) of each sample of a data set, in order."""
        for (kind, _, name), parts in self._parts.items():
            if name == dataset and kind != "weights":
                return tuple(sample for part in parts for sample in part.header.samples)
        raise StatisticsError(f"no statistics of data set {dataset!r}: expected one of {', '.join(self.datasets)}")

    def view(self, shares: Mapping[str, float] | None = None, lambda_b: float = DEFAULTS.lambda_b) -> View:
        """Return what criteria read: means over data sets that are taken as one, at one lambda_B.

        Args:
            shares: Data sets and the share of each, which sum to 1; by default all samples count the same.
            lambda_b: Weight of the boundary band, at least 0; 0 is the plain Dice + BCE loss.

        Raises:
            StatisticsError: There is no data set.
        """
        if shares is None:
            total = sum(self.counts.values())
            shares = {name: count / total for name, count in self.counts.items()}
        if not shares:
            raise StatisticsError("the statistics hold no data set: calibrate on at least one")
        return View(self._parts, shares, lambda_b)

    def fisher(
        self, dataset: str, layer_name: str, which: Role = "adapted", lambda_b: float = DEFAULTS.lambda_b
    ) -> Pair:
        """Diagonal Fisher of one layer on one data set: the mean of per-sample squared gradients (Eq. 10).

        Args:
            dataset: Name of the data set.
            layer_name: Qualified name of the layer in the model, as `Block.layer_names` gives it.
            which: `adapted` for F_M, `reference` for F_S.
            lambda_b: Weight of the boundary band, at least 0; 0 is the plain Dice + BCE loss.

        Returns:
            Float32 tensors shaped like the layer's weight and bias, non-negative.

        Raises:
            StatisticsError: Not collected, damaged, or not finite.
        """
        return _floats(self._of(dataset, lambda_b).layer("fisher", layer_name, which))

    def mean_gradient(self, dataset: str, layer_name: str, lambda_b: float = DEFAULTS.lambda_b) -> Pair:
        """Gradient of the mean loss of one data set, shaped like the layer's weight and bias.

        Args:
            dataset: One of `datasets`.
            layer_name: Qualified name in the encoder.
            lambda_b: Weight of the boundary band in the loss.

        Raises:
            StatisticsError: It was not collected.
        """
        return _floats(self._of(dataset, lambda_b).layer("gradient", layer_name))

    def reference_weights(self, layer_name: str) -> Pair:
        """The reference's weight and bias of one layer, theta_S of Eq. 12; float32."""
        return _floats(self._of("", 0.0).layer("weights", layer_name, "reference"))

    def directional(
        self, dataset: str, layer_name: str, direction: Direction = "zero", lambda_b: float = DEFAULTS.lambda_b
    ) -> Tensor:
        """Directional Fisher of each unit on one data set: the mean of squared per-sample slopes, E[d^2].

        Args:
            dataset: Name of the data set.
            layer_name: Qualified name of the unit's `proj` or `lin2`.
            direction: `zero` for the slope along removal, `reset` along the way back to the reference.
            lambda_b: Weight of the boundary band, at least 0.

        Returns:
            Float32 (n_units,), non-negative: heads, or single neurons.

        Raises:
            StatisticsError: Not collected, damaged, or not finite.
        """
        return self.mean(f"directional_{direction}", dataset, f"{layer_name}.units", lambda_b)

    def mean(
        self, kind: str, dataset: str, name: str, lambda_b: float = DEFAULTS.lambda_b, role: Role = "adapted"
    ) -> Tensor:
        """Mean over the samples of one data set of any tensor that a collector sums.

        Args:
            kind: Name of the collector.
            dataset: Name of the data set.
            name: What the collector calls the tensor, e.g. `<layer>.gram`.
            lambda_b: Weight of the boundary band, at least 0.
            role: The model that it was collected of.

        Returns:
            Float32, in the collector's shape.

        Raises:
            StatisticsError: Not collected, damaged, not finite, or of a collector that is not there.
        """
        return self._of(dataset, lambda_b).mean(kind, name, role).float()

    def _of(self, dataset: str, lambda_b: float) -> View:
        return self.view({dataset: 1.0}, lambda_b)

    def take(self, n: int) -> "Statistics":
        """Return the statistics of the first `n` samples of every data set.

        Args:
            n: A stored shard boundary (`calibrate(..., shards=...)`); a data set with fewer samples is taken whole.

        Raises:
            StatisticsError: `n` is no boundary of some data set.
        """
        return Statistics(part for key, parts in self._parts.items() for part in _first_samples(key, parts, n))

    def boundaries(self) -> list[int]:
        """Numbers of samples that `take` accepts for every data set, ascending."""
        sets = [set(_sample_ends(parts)) for (kind, _, _), parts in self._parts.items() if kind != "weights"]
        return sorted(set.intersection(*sets)) if sets else []

    def has(self, need: Need) -> bool:
        """Whether `need` was collected, for every data set."""
        kind, role = need.kind, need.role
        wanted = [""] if kind == "weights" else self.datasets
        return bool(wanted) and all((kind, role, dataset) in self._parts for dataset in wanted)

    def require(self, needs: Iterable[Need]) -> None:
        """Check that everything in `needs` was collected.

        Raises:
            StatisticsError: Something was not; the message says how to collect it.
        """
        if missing := [need for need in needs if not self.has(need)]:
            raise StatisticsError(how_to_collect(missing))

    def check_fits(self, model: nn.Module) -> None:
        """Check that the statistics were taken on this model as it is now.

        Raises:
            StatisticsError: A layer's shape, any weight of the model, or a setting of one of its parts is another.
        """
        for parts in self._parts.values():
            check_shapes(parts[0], model)
        # of the whole model: gradients depend on the decoder and everything else as well
        known = {part.header.model_hash for part in self.parts if part.header.role == "adapted"} - {""}
        if known and known != {computation_hash(model)}:
            raise StatisticsError(
                "the statistics were taken on another model, of other weights or settings: calibrate this model"
            )

    def save(self, folder: str | Path) -> None:
        """Write all parts into a folder that `load` reads: a file each, and at last `index.json`, which names them.

        Args:
            folder: A new folder, or one without statistics. A save that fails leaves no file; what one that was killed
                leaves is refused here and by `load` until it is removed.

        Raises:
            StatisticsError: The folder already holds statistics, or part of some.
            WriteError: It cannot be written to, or the disk is full.
        """
        save_parts(folder, self.parts)

    @classmethod
    def load(cls, folder: str | Path) -> "Statistics":
        """Open the statistics of a folder that `save` wrote, without reading the tensors.

        Args:
            folder: With its `index.json`; a calibration cache has none, and is read by `calibrate` alone.

        Raises:
            StatisticsError: Nothing there, or a file is damaged, missing, foreign or another than the one saved.
        """
        return cls(load_parts(folder))

    @classmethod
    def merge(cls, several: Iterable["Statistics"]) -> "Statistics":
        """Join statistics of one model: samples of the same data set are added, data sets are put side by side.

        A sample is known by its content, image, mask and box: one that two of them hold under two names is refused, for
        it would count twice. What a single run was given twice it has counted twice, and keeps.

        Raises:
            StatisticsError: They belong to different models or losses, or share a sample.
        """
        runs = [statistics.parts for statistics in several]
        check_disjoint(runs)
        return cls(part for parts in runs for part in parts)

    @classmethod
    def from_tensors(
        cls,
        fisher: Mapping[str, Layers] | None = None,
        reference_fisher: Mapping[str, Layers] | None = None,
        mean_gradient: Mapping[str, Layers] | None = None,
        reference_weights: Layers | None = None,
        count: int = 1,
        others: Mapping[Need, Mapping[str, Mapping[str, Tensor]]] | None = None,
    ) -> "Statistics":
        """Build statistics from tensors of one's own, the same for every lambda_B.

        Args:
            fisher: Data set to layer name to (weight, bias), the mean squared gradients of the adapted model.
            reference_fisher: Likewise, of the reference.
            mean_gradient: Likewise, the gradient of the mean loss.
            reference_weights: Layer name to the reference's (weight, bias).
            count: Number of samples that the means are said to stand for.
            others: What else there is: need to data set to the collector's name of a tensor to its mean over samples.
        """
        pairs = {Need.FISHER: fisher, Need.REFERENCE_FISHER: reference_fisher, Need.MEAN_GRADIENT: mean_gradient}
        named: dict[Need, Mapping[str, Mapping[str, Tensor]]] = {
            need: {dataset: flat(layers) for dataset, layers in (by_dataset or {}).items()}
            for need, by_dataset in pairs.items()
        }
        if reference_weights is not None:
            named[Need.REFERENCE_WEIGHTS] = {"": flat(reference_weights)}
        return cls(
            memory_part(need, dataset, tensors, count)
            for need, by_dataset in {**named, **(others or {})}.items()
            for dataset, tensors in by_dataset.items()
        )


def _floats(pair: Pair) -> Pair:
    return pair[0].float(), pair[1].float()


def _sample_ends(parts: Sequence[Part]) -> list[int]:
    """Number of samples up to the end of each part."""
    ends, total = [], 0
    for part in parts:
        total += part.header.count
        ends.append(total)
    return ends


def _first_samples(key: tuple[str, str, str], parts: Sequence[Part], n: int) -> Sequence[Part]:
    """Return the parts that hold the first `n` samples; all of them where there are no more, and of weights."""
    ends = _sample_ends(parts)
    if key[0] == "weights" or n >= ends[-1] > 0:
        return parts
    if n not in ends:
        known = ", ".join(map(str, ends))
        raise StatisticsError(
            f"cannot take {n} samples of {key[2]}: stored boundaries are {known}; calibrate with shards"
        )
    return parts[: ends.index(n) + 1]
