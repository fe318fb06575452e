"""A SAM with 54 units, or one with a TinyViT, statistics and two images: enough to score with every criterion."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from lite import LITE, tiny_lite
from torch import Tensor, nn

from medcore_prune.calibration.collector import Need
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.data.samples import Sample
from medcore_prune.models.groups import StructuredGroup, groups_of
from medcore_prune.models.sam_shape import SamShape
from medcore_prune.models.segment_anything import build_sam

MICRO = SamShape(16, 4, 6, 2, 3, (1,), 2, 8, 2, 8, 8)
MICRO_LITE = replace(LITE, image_size=16, widths=(4, 6, 6, 8), heads=(0, 2, 3, 2), out_channels=8, iou_hidden_dim=8)
DATASETS = {"a": 3, "b": 5}
Layers = dict[str, tuple[Tensor, Tensor]]


class TwoImages:
    """Two images of one data set with a rectangle each."""

    def __init__(self, name: str, seed: int) -> None:
        self.name, self._rng = name, np.random.default_rng(seed)
        self._samples = [self._sample(index) for index in range(2)]
        self.ids = [sample.name for sample in self._samples]
        self.groups = self.ids

    def _sample(self, index: int) -> Sample:
        mask = np.zeros((16, 16), dtype=bool)
        mask[3 : 9 + index, 4:12] = True
        image = self._rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        return Sample(self.name, f"{self.name}{index}", image, mask, (4.0, 3.0, 11.0, 8.0 + index), f"{index}")

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def hashes(self) -> Sequence[str]:
        return self.ids


def micro_sam(seed: int) -> nn.Module:
    """An untrained `Sam` of 2 blocks with 3 heads and 24 neurons, biases and relative positions not zero; float64."""
    model = build_sam(MICRO, seed=seed).double()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.image_encoder.named_parameters():
            if "rel_pos" in name or name.endswith("bias"):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return model


def random_layers(layers: dict[str, nn.Linear], seed: int, signed: bool = False) -> Layers:
    """One random (weight, bias) pair a layer, non-negative unless `signed`."""
    rng = torch.Generator().manual_seed(seed)
    draw = torch.randn if signed else torch.rand
    return {
        name: (draw(layer.weight.shape, generator=rng), draw(layer.bias.shape, generator=rng))
        for name, layer in layers.items()
    }


@dataclass
class Tensors:
    """The statistics as plain tensors: data set to layer to (weight, bias)."""

    fisher: dict[str, Layers]
    reference_fisher: dict[str, Layers]
    mean_gradient: dict[str, Layers]
    reference_weights: Layers
    others: dict[Need, dict[str, dict[str, Tensor]]]

    @classmethod
    def random(cls, layers: dict[str, nn.Linear], seed: int = 0) -> "Tensors":
        return cls(
            {name: random_layers(layers, seed + 10 + k) for k, name in enumerate(DATASETS)},
            {name: random_layers(layers, seed + 20 + k) for k, name in enumerate(DATASETS)},
            {name: random_layers(layers, seed + 30 + k, signed=True) for k, name in enumerate(DATASETS)},
            random_layers(layers, seed + 40, signed=True),
            {},
        )

    def mapped(
        self, function: Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]], other: Callable[[str, Tensor], Tensor]
    ) -> "Tensors":
        def over(layers: Layers) -> Layers:
            return {name: function(name, *pair) for name, pair in layers.items()}

        by_dataset = [
            {name: over(layers) for name, layers in sets.items()}
            for sets in (self.fisher, self.reference_fisher, self.mean_gradient)
        ]
        others = {
            need: {name: {key: other(key, value) for key, value in tensors.items()} for name, tensors in sets.items()}
            for need, sets in self.others.items()
        }
        return Tensors(*by_dataset, over(self.reference_weights), others)

    def statistics(self) -> Statistics:
        """The same as `Statistics`, with as many samples a data set as `DATASETS` says."""
        return Statistics.merge(
            Statistics.from_tensors(
                fisher={name: self.fisher[name]},
                reference_fisher={name: self.reference_fisher[name]},
                mean_gradient={name: self.mean_gradient[name]},
                reference_weights=self.reference_weights if name == "a" else None,
                count=count,
                others={need: {name: sets[name]} for need, sets in self.others.items()},
            )
            for name, count in DATASETS.items()
        )


@dataclass
class World:
    """Everything that a criterion may ask for."""

    model: nn.Module
    reference: nn.Module
    tensors: Tensors
    seed: int = 0
    data: dict[str, TwoImages] = field(default_factory=lambda: {name: TwoImages(name, 7) for name in DATASETS})

    @property
    def groups(self) -> list[StructuredGroup]:
        return groups_of(self.model)

    @property
    def inputs(self) -> dict[str, object]:
        return {
            "statistics": self.tensors.statistics(),
            "model": self.model,
            "reference": self.reference,
            "data": self.data,
            "seed": self.seed,
        }

    def permuted(self, orders: list[Tensor]) -> "World":
        """The same world with the units of each group in another order."""
        model, reference = micro_sam(0), micro_sam(1)
        model.load_state_dict(self.model.state_dict())
        reference.load_state_dict(self.reference.state_dict())
        index: dict[str, tuple[int, Tensor]] = {}
        units: dict[str, Tensor] = {}
        for group, order in zip(self.groups, orders, strict=True):
            index[group.inputs[0].name] = (0, _moved(group.inputs[0].rows, order))
            index[group.name_out] = (1, _moved(group.out_cols, order))
            units[group.name_out] = order

        def move(name: str, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            dim, where = index[name]
            return weight.index_select(dim, where), bias[where] if dim == 0 else bias

        def move_other(key: str, value: Tensor) -> Tensor:
            name, _, what = key.rpartition(".")
            channels = index[name][1]
            if what == "units":
                return value[units[name]]
            return value[channels] if what == "squares" else value[channels][:, channels]

        for name in index:
            for sam in (model, reference):
                layer = sam.get_submodule(name)
                weight, bias = move(name, layer.weight, layer.bias)
                with torch.no_grad():
                    layer.weight.copy_(weight)
                    layer.bias.copy_(bias)
        return replace(self, model=model, reference=reference, tensors=self.tensors.mapped(move, move_other))


def _moved(members: Tensor, order: Tensor) -> Tensor:
    """Where each position takes its values from when unit u is taken from unit order[u]."""
    where = torch.empty(members.numel(), dtype=torch.long)
    where[members.flatten()] = members[order].flatten()
    return where


def micro_world(seed: int = 0) -> World:
    """A model, a reference that differs, and random statistics."""
    return _world(micro_sam, seed)


def lite_world(seed: int = 0) -> World:
    """The same of an encoder with unequal blocks, padded windows, and `qkv` laid out head by head."""
    return _world(lambda seed: tiny_lite(seed, MICRO_LITE).double(), seed)


def _world(make: Callable[[int], nn.Module], seed: int) -> World:
    model, reference = make(0), make(1)
    layers = {name: layer for g in groups_of(model) for name, layer in g.layers}
    tensors = Tensors.random(layers, seed)
    tensors.reference_weights = {
        name: tuple(p.detach().clone() for p in reference.get_submodule(name).parameters()) for name in layers
    }
    tensors.others = random_others({g.name_out: (g.n_units, g.layer_out.in_features) for g in groups_of(model)}, seed)
    return World(model, reference, tensors, seed)


def random_others(layers: dict[str, tuple[int, int]], seed: int = 0) -> dict[Need, dict[str, dict[str, Tensor]]]:
    """Squared slopes of every unit and Gram matrices of 40 inputs; layer to numbers of units and inputs."""
    rng = torch.Generator().manual_seed(seed + 50)

    def slopes(n_units: int, _: int) -> Tensor:
        return torch.rand(n_units, generator=rng)

    def gram(_: int, inputs: int) -> Tensor:
        drawn = torch.randn((40, inputs), generator=rng)
        return drawn.T @ drawn

    def squares(_: int, inputs: int) -> Tensor:
        return torch.rand(inputs, generator=rng)

    made = {
        Need.INPUT_SQUARES: ("squares", squares),
        Need.DIRECTIONAL_ZERO: ("units", slopes),
        Need.DIRECTIONAL_RESET: ("units", slopes),
        Need.GRAM: ("gram", gram),
        Need.WEIGHTED_GRAM: ("gram", gram),
    }
    return {
        need: {data: {f"{name}.{what}": make(*sizes) for name, sizes in layers.items()} for data in DATASETS}
        for need, (what, make) in made.items()
    }
