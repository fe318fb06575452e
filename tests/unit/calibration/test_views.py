import pytest
import torch
from reads import counted
from scoring import micro_world
from torch import nn

from medcore_prune._support.errors import StatisticsError
from medcore_prune.calibration.collector import Need
from medcore_prune.calibration.statistics import Statistics

SHARES = {"a": 0.375, "b": 0.625}


def test_a_view_mixes_its_data_sets() -> None:
    world = micro_world()
    part = world.groups[0].inputs[0]
    view = world.tensors.statistics().view(SHARES, 0.0)
    for read, source in ((view.fisher, world.tensors.fisher), (view.mean_gradient, world.tensors.mean_gradient)):
        own = read(part.layer, part.name)
        for value, a, b in zip(own, source["a"][part.name], source["b"][part.name], strict=True):
            torch.testing.assert_close(value, (0.375 * a + 0.625 * b).double(), rtol=1e-6, atol=1e-7)
    adapted, reference = view.fisher(part.layer, part.name)[0], view.fisher(part.layer, part.name, "reference")[0]
    assert not torch.equal(reference, adapted)


def test_all_samples_count_the_same_by_default() -> None:
    world = micro_world()
    statistics, group = world.tensors.statistics(), world.groups[0]
    assert statistics.counts == {"a": 3, "b": 5}
    for read in (lambda view: view.gram(group), lambda view: view.input_squares(group)):
        assert torch.equal(read(statistics.view()), read(statistics.view(SHARES)))
    with pytest.raises(StatisticsError, match="hold no data set: calibrate on at least one"):
        Statistics([]).view()


def test_statistics_of_another_shape_are_refused() -> None:
    world = micro_world()
    group, view = world.groups[0], world.tensors.statistics().view(SHARES)
    other, name = nn.Linear(6, 3), group.inputs[0].name
    for read in (view.fisher, view.mean_gradient, view.reference_weights):
        with pytest.raises(StatisticsError, match=r"qkv has shape \(3, 6\), its statistics \(18, 6\): .* calibrate"):
            read(other, name)
    group.layer_out.in_features = 5
    for of_group in (view.gram, view.input_squares):
        with pytest.raises(StatisticsError, match="reads 5 inputs, its statistics 6: the model was cut since"):
            of_group(group)


def test_a_layer_without_bias_has_zeros() -> None:
    tensors = {"layer.weight": torch.ones(2, 3)}
    own = Statistics.from_tensors(others={Need.MEAN_GRADIENT: {"a": tensors}})
    weight, bias = own.view().mean_gradient(nn.Linear(3, 2, bias=False), "layer")
    assert weight.dtype == torch.float64
    assert bias.tolist() == [0.0, 0.0]


def test_a_device_is_waited_for_once_a_layer() -> None:
    world = micro_world()
    group, view = world.groups[0], world.tensors.statistics().view(SHARES)
    part = group.inputs[0]
    for read in (view.fisher, view.mean_gradient, view.reference_weights):
        with counted("item") as reads:
            read(part.layer, part.name)
        assert len(reads) == 1
    for of_group in (view.gram, view.input_squares, lambda each: view.directional(each, "zero")):
        with counted("item") as reads:
            of_group(group)
        assert len(reads) == 1


@pytest.mark.parametrize("dataset", ["a", "b"])
@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_what_is_not_finite_is_named(kind: str, dataset: str) -> None:
    means = {name: (torch.ones(2, 3), torch.ones(2)) for name in ("a", "b")}
    means[dataset][kind == "bias"][0] = torch.inf
    view = Statistics.from_tensors({name: {"layer": pair} for name, pair in means.items()}).view(SHARES)
    with pytest.raises(StatisticsError, match=f"the fisher of layer.{kind} on {dataset} is not finite"):
        view.fisher(nn.Linear(3, 2), "layer")
