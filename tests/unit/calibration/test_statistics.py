from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import tiny_sam
from torch import Tensor

from medcore_prune._support.errors import StatisticsError
from medcore_prune.calibration.collector import Need, prunable_layers
from medcore_prune.calibration.sensitivity import block_sensitivity
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.calibration.storage import Header, MemoryPart
from medcore_prune.models.families import blocks_of
from medcore_prune.models.fingerprint import computation_hash

LAYER = "image_encoder.blocks.0.mlp.lin1"


def gradients(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Gradients of the plain loss and of the band term for `count` samples of a layer of 3 x 2 weights and 3 biases."""
    rng = torch.Generator().manual_seed(seed)
    plain, band = torch.randn((2, count, 3, 3), generator=rng, dtype=torch.float64)
    return plain, band


def part(plain: Tensor, band: Tensor, first: int, dataset: str = "kvasir", **header: str) -> MemoryPart:
    sums = {"plain_plain": plain**2, "plain_band": 2 * plain * band, "band_band": band**2}
    tensors = {}
    for name, value in sums.items():
        tensors[f"{name}/{LAYER}.weight"], tensors[f"{name}/{LAYER}.bias"] = value.sum(0).split([2, 1], dim=1)
    samples = tuple((f"{dataset} {first + index}", "") for index in range(len(plain)))
    return MemoryPart(
        Header(**{"kind": "fisher", "role": "adapted", **header}, dataset=dataset, samples=samples), tensors
    )


def expected(plain: Tensor, band: Tensor, lambda_b: float) -> tuple[Tensor, Tensor]:
    weight, bias = ((plain + lambda_b * band) ** 2).mean(0).float().split([2, 1], dim=1)
    return weight, bias


@pytest.mark.parametrize("lambda_b", [0.0, 1.0, 5.0, 12.5])
def test_fisher_from_three_sums(lambda_b: float) -> None:
    plain, band = gradients(0, 7)
    statistics = Statistics([part(plain, band, 0)])
    torch.testing.assert_close(statistics.fisher("kvasir", LAYER, lambda_b=lambda_b), expected(plain, band, lambda_b))
    assert statistics.counts == {"kvasir": 7}


def test_fisher_never_falls_below_zero() -> None:
    # the gradients cancel at lambda_b = 3, where float32 sums alone would round to either side of zero
    band = torch.rand(50, 3, 3)
    statistics = Statistics([part(-3 * band, band, 0)])
    weight, bias = statistics.fisher("kvasir", LAYER, lambda_b=3.0)
    assert float(weight.min()) >= 0
    assert float(bias.min()) >= 0


def test_reading_changes_nothing() -> None:
    statistics = Statistics([part(*gradients(0, 3), 0)])
    first = [tensor.clone() for tensor in statistics.fisher("kvasir", LAYER)]
    statistics.fisher("kvasir", LAYER)[0].zero_()
    torch.testing.assert_close(list(statistics.fisher("kvasir", LAYER)), first)


def test_merge_equals_one_run() -> None:
    plain, band = gradients(1, 9)
    one, other = (Statistics([part(plain[cut], band[cut], cut.start)]) for cut in (slice(0, 4), slice(4, 9)))
    merged = Statistics.merge([one, other])
    assert merged.counts == {"kvasir": 9}
    torch.testing.assert_close(merged.fisher("kvasir", LAYER), expected(plain, band, 5.0))


def test_merge_puts_data_sets_side_by_side() -> None:
    merged = Statistics.merge(Statistics([part(*gradients(2, 3), 0, dataset=name)]) for name in ("a", "b"))
    assert merged.datasets == ["a", "b"]
    torch.testing.assert_close(merged.fisher("b", LAYER), expected(*gradients(2, 3), 5.0))


def test_merge_refuses_what_does_not_belong_together() -> None:
    mine = Statistics([part(*gradients(0, 3), 0, model_hash="a")])
    with pytest.raises(StatisticsError, match="kvasir 0 of kvasir is counted twice"):
        Statistics.merge([mine, mine])
    with pytest.raises(StatisticsError, match="come from different weights"):
        Statistics.merge([mine, Statistics([part(*gradients(0, 3), 3, model_hash="b")])])
    with pytest.raises(StatisticsError, match="different losses or settings"):
        Statistics.merge([mine, Statistics([part(*gradients(0, 3), 3, model_hash="a", losses=("plain",))])])  # type: ignore[arg-type]
    with pytest.raises(StatisticsError, match="not all collected on the same samples"):
        Statistics.merge([mine, Statistics([part(*gradients(0, 3), 1, role="reference")])])


def test_take_cuts_at_boundaries() -> None:
    plain, band = gradients(3, 10)
    cuts = [slice(0, 2), slice(2, 4), slice(4, 8), slice(8, 10)]
    statistics = Statistics(part(plain[cut], band[cut], cut.start) for cut in cuts)
    assert statistics.boundaries() == [2, 4, 8, 10]
    taken = statistics.take(4)
    assert taken.counts == {"kvasir": 4}
    torch.testing.assert_close(taken.fisher("kvasir", LAYER), expected(plain[:4], band[:4], 5.0))
    assert statistics.take(99).counts == {"kvasir": 10}
    with pytest.raises(StatisticsError, match="cannot take 5 samples of kvasir: stored boundaries are 2, 4, 8, 10"):
        statistics.take(5)


def test_save_and_load(tmp_path: Path) -> None:
    plain, band = gradients(4, 5)
    cuts = [slice(0, 2), slice(2, 5)]
    Statistics(part(plain[cut], band[cut], cut.start, dataset="a/b c") for cut in cuts).save(tmp_path / "mine")
    loaded = Statistics.load(tmp_path / "mine")
    assert loaded.boundaries() == [2, 5]
    torch.testing.assert_close(loaded.fisher("a/b c", LAYER), expected(plain, band, 5.0))
    with pytest.raises(StatisticsError, match="already holds statistics"):
        loaded.save(tmp_path / "mine")
    with pytest.raises(StatisticsError, match="no statistics here"):
        Statistics.load(tmp_path / "elsewhere")


def ones(scale: float = 1.0) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        name: (torch.full_like(layer.weight, scale), torch.full_like(layer.bias, 2 * scale))
        for name, layer in prunable_layers(tiny_sam()).items()
    }


def test_from_tensors() -> None:
    units, squares, gram = (f"{LAYER.replace('lin1', 'lin2')}.{what}" for what in ("units", "squares", "gram"))
    others = {
        Need.DIRECTIONAL_ZERO: {"a": {units: torch.full((4,), 2.0)}},
        Need.DIRECTIONAL_RESET: {"a": {units: torch.full((4,), 4.0)}},
        Need.INPUT_SQUARES: {"a": {squares: torch.full((4,), 8.0)}},
        Need.GRAM: {"a": {gram: torch.eye(4)}},
        Need.WEIGHTED_GRAM: {"a": {gram: 2 * torch.eye(4)}},
    }
    statistics = Statistics.from_tensors(
        {"a": ones(3.0)}, {"a": ones(5.0)}, {"a": ones(7.0)}, ones(11.0), count=6, others=others
    )
    for lambda_b in (0.0, 5.0):
        assert statistics.fisher("a", LAYER, lambda_b=lambda_b)[0].unique().tolist() == [3.0]
        assert statistics.fisher("a", LAYER, "reference", lambda_b)[1].unique().tolist() == [10.0]
        assert statistics.mean_gradient("a", LAYER, lambda_b)[0].unique().tolist() == [7.0]
        assert statistics.directional("a", LAYER.replace("lin1", "lin2"), "zero", lambda_b).tolist() == [2.0] * 4
        assert statistics.directional("a", LAYER.replace("lin1", "lin2"), "reset", lambda_b).tolist() == [4.0] * 4
        assert statistics.mean("input_squares", "a", squares, lambda_b).tolist() == [8.0] * 4
        assert torch.equal(statistics.mean("gram", "a", gram, lambda_b), torch.eye(4))
        assert torch.equal(statistics.mean("weighted_gram", "a", gram, lambda_b), 2 * torch.eye(4))
    assert statistics.reference_weights(LAYER)[1].unique().tolist() == [22.0]
    assert statistics.counts == {"a": 6}
    statistics.require(need for need in vars(Need).values() if isinstance(need, Need))


def test_missing_needs_are_named() -> None:
    statistics = Statistics.from_tensors({"a": ones()})
    statistics.require({Need.FISHER})
    with pytest.raises(StatisticsError, match=r"no reference_fisher: calibrate\(.*Need.REFERENCE_FISHER.*reference"):
        statistics.require({Need.FISHER, Need.REFERENCE_FISHER})
    with pytest.raises(StatisticsError, match="no mean_gradient"):
        statistics.mean_gradient("a", LAYER)
    with pytest.raises(StatisticsError, match="no statistics of data set 'b': expected one of a"):
        statistics.fisher("b", LAYER)
    with pytest.raises(StatisticsError, match="no fisher"):
        Statistics([]).require({Need.FISHER})


def test_lambda_needs_the_band() -> None:
    only = Header("fisher", "adapted", "a", (("0", ""),), ("plain",))
    tensors = {f"plain_plain/{LAYER}.{kind}": torch.ones(2) for kind in ("weight", "bias")}
    statistics = Statistics([MemoryPart(only, tensors)])
    assert statistics.fisher("a", LAYER, lambda_b=0.0)[0].tolist() == [1.0, 1.0]
    with pytest.raises(StatisticsError, match=r"collected for lambda_b 0 alone.*losses=\('plain', 'band'\)"):
        statistics.fisher("a", LAYER, lambda_b=5.0)


def test_not_finite_is_refused() -> None:
    bad = ones()
    bad[LAYER][0][0, 0] = torch.nan
    with pytest.raises(StatisticsError, match=f"the fisher of {LAYER}.weight on a is not finite"):
        Statistics.from_tensors({"a": bad}).fisher("a", LAYER)


def test_fits_the_model_that_it_was_taken_on() -> None:
    model, other = tiny_sam(), tiny_sam(seed=5)
    statistics = Statistics.from_tensors({"a": ones()})
    statistics.check_fits(model)
    layer = blocks_of(model)[2].layers["lin1"]
    layer.weight.data = layer.weight.data[:7]
    with pytest.raises(StatisticsError, match=r"blocks.2.mlp.lin1 has shape \(7, 24\), the statistics \(96, 24\)"):
        statistics.check_fits(model)
    known = Header("fisher", "adapted", "a", (("0", ""),), model_hash=computation_hash(tiny_sam()))
    tensors = {key: statistics.parts[0].tensor(key) for key in statistics.parts[0].names}
    Statistics([MemoryPart(known, tensors)]).check_fits(tiny_sam())
    with pytest.raises(StatisticsError, match="taken on another model"):
        Statistics([MemoryPart(known, tensors)]).check_fits(other)
    decoder = tiny_sam()
    decoder.mask_decoder.iou_token.weight.data += 1  # type: ignore[union-attr,operator]
    with pytest.raises(StatisticsError, match="taken on another model"):
        Statistics([MemoryPart(known, tensors)]).check_fits(decoder)
    with pytest.raises(StatisticsError, match=r"hold nothing for layer image_encoder.blocks.0.attn.qkv"):
        Statistics([part(*gradients(0, 2), 0)]).check_fits(other)


def scaled(blocks: Iterator[float]) -> dict[str, tuple[Tensor, Tensor]]:
    layers = {}
    for block, scale in zip(blocks_of(tiny_sam()), blocks, strict=False):
        for role, layer in block.layers.items():
            layers[block.layer_names[role]] = (
                scale * torch.ones_like(layer.weight),
                scale * torch.ones_like(layer.bias),
            )
    return layers


def test_block_sensitivity_is_the_mean_over_parameters_and_data_sets() -> None:
    model = tiny_sam()
    statistics = Statistics.from_tensors({"a": scaled(iter([1, 2, 3, 4])), "b": scaled(iter([3, 6, 9, 12]))})
    assert block_sensitivity(statistics, model) == pytest.approx([2, 4, 6, 8])
    # one weight of lin1 in block 1 on one data set: every parameter counts the same
    layers = scaled(iter([1, 1, 1, 1]))
    layers["image_encoder.blocks.1.mlp.lin1"][0][0, 0] = 1001
    parameters = sum(p.numel() for layer in blocks_of(model)[1].layers.values() for p in layer.parameters())
    got = block_sensitivity(Statistics.from_tensors({"a": layers}), model)
    assert got == pytest.approx([1, 1 + 1000 / parameters, 1, 1], rel=1e-6)
