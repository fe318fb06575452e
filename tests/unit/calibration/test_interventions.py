import copy

import pytest
import reads
import torch
from scoring import TwoImages, micro_sam, micro_world
from tiny import tiny_sam

from medcore_prune._support.errors import AlignmentError, DataError
from medcore_prune.calibration.interventions import RiskData, exact_interventions, parts_of, risk, unit_replaced
from medcore_prune.data.frame import Frame
from medcore_prune.data.samples import Subset


def _data() -> dict[str, RiskData]:
    return {"a": RiskData.of(TwoImages("a", 3), Frame(16))}


def test_data_as_the_loss_sees_it() -> None:
    data = _data()["a"]
    assert (data.images.shape, data.boxes.shape, data.masks.shape) == ((2, 3, 16, 16), (2, 4), (2, 1, 16, 16))
    # rows 3..8 and 3..9, columns 4..11
    assert data.masks.sum((1, 2, 3)).tolist() == [48, 56]


def test_an_empty_data_set() -> None:
    with pytest.raises(DataError, match="data set 'a' holds no image to measure a risk on"):
        RiskData.of(Subset(TwoImages("a", 0), (), "a"), Frame(16))


def test_risk_does_not_depend_on_the_batch_size() -> None:
    model, data = micro_sam(0), _data()["a"]
    assert risk(model, data, batch_size=1) == pytest.approx(risk(model, data, batch_size=2), rel=1e-12)


def test_risk_grows_with_the_weight_of_the_band() -> None:
    model, data = micro_sam(0), _data()["a"]
    plain, one, two = (risk(model, data, lambda_b) for lambda_b in (0.0, 1.0, 2.0))
    assert two - one == pytest.approx(one - plain)
    assert one > plain


def test_a_reference_equal_to_the_model_resets_nothing() -> None:
    model = micro_sam(0)
    world = micro_world()
    costs = exact_interventions(model, world.groups[:2], _data(), reference=micro_sam(0), progress=False)["a"]
    assert [values.abs().max().item() for values in costs] == [0.0, 0.0]


def test_a_unit_of_zeros_costs_nothing() -> None:
    world = micro_world()
    head = world.groups[0]
    with torch.no_grad():
        head.layer_out.weight[:, head.out_cols[1]] = 0
    costs = exact_interventions(world.model, [head], _data(), progress=False)["a"][0]
    # a head whose output is not read is worth nothing, whatever its q, k and v
    assert costs[1].abs() < 1e-12
    assert costs[[0, 2]].abs().min() > 1e-9


def test_some_units_alone() -> None:
    world = micro_world()
    groups = world.groups[:2]
    full = exact_interventions(world.model, groups, _data(), reference=world.reference, progress=False)["a"]
    some = exact_interventions(
        world.model, groups, _data(), reference=world.reference, units=[[2, 0], [7]], progress=False
    )["a"]
    torch.testing.assert_close(some[0], full[0][[2, 0]])
    torch.testing.assert_close(some[1], full[1][[7]])


def test_a_unit_comes_back_when_the_network_fails() -> None:
    world = micro_world()
    before = copy.deepcopy(world.model.state_dict())
    group = world.groups[0]
    with pytest.raises(AssertionError, match="the unit is gone"), unit_replaced(parts_of(group), 1, None):
        assert torch.equal(group.inputs[0].layer.weight, before[f"{group.inputs[0].name}.weight"]), "the unit is gone"
    assert all(torch.equal(value, before[key]) for key, value in world.model.state_dict().items())


def test_a_reference_of_other_shapes_is_refused() -> None:
    world = micro_world()
    with pytest.raises(AlignmentError, match=r"qkv of the reference does not have the shape \(18, 6\) of the model"):
        exact_interventions(world.model, world.groups[:1], _data(), reference=tiny_sam(), progress=False)
    with pytest.raises(
        AlignmentError,
        match=r"the reference is not like the model: there is no layer image_encoder\.blocks\.0",
    ):
        exact_interventions(world.model, world.groups[:1], _data(), reference=world.model.image_encoder, progress=False)


def test_no_number_is_read_unit_by_unit() -> None:
    world, found = micro_world(), list[int]()
    for units in ([0], [0, 1, 2]):
        with reads.counted() as seen:
            exact_interventions(
                world.model, world.groups[-2:-1], _data(), reference=world.reference, units=[units], progress=False
            )
        found.append(len(seen))
    assert found[0] == found[1] > 0


def test_losses_that_are_not_finite_stay_so() -> None:
    world = micro_world()
    head = world.groups[0]
    with torch.no_grad():
        head.layer_out.weight[:, head.out_cols[1]] = float("nan")
    costs = exact_interventions(world.model, [head], _data(), progress=False)["a"][0]
    assert not costs.isfinite().any()
