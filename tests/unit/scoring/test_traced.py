import pytest
import torch
import torch_pruning as tp
from plain_vit import PlainViT, plain_vit
from torch import nn

from medcore_prune._support.errors import CriterionError
from medcore_prune.models.groups import groups_of
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.scoring.traced import UnitFinder, family_known, spread, structured_from, traced_groups


def _traced(model: nn.Module, shape: tuple[int, ...] = (1, 3, 16, 16)) -> tp.DependencyGraph:
    return tp.DependencyGraph().build_dependency(model, torch.zeros(shape), verbose=False)


def _names(model: nn.Module) -> dict[nn.Module, str]:
    return {module: name for name, module in model.named_modules()}


def _heads(model: PlainViT) -> dict[nn.Module, int]:
    return {block.attn.qkv: 4 for block in model.blocks}


def test_heads_and_neurons_of_a_plain_vit() -> None:
    model = plain_vit()
    groups = traced_groups(_traced(model), _names(model), _heads(model))
    assert [(g.block, g.family, g.n_units, g.unit_size, g.inputs[0].name) for g in groups] == [
        (0, "heads", 4, 6, "blocks.0.attn.qkv"),
        (0, "neurons", 48, 1, "blocks.0.mlp.fc1"),
        (1, "heads", 4, 6, "blocks.1.attn.qkv"),
        (1, "neurons", 48, 1, "blocks.1.mlp.fc1"),
    ]
    # head 1 is channels 6..11 of q, and the same 24 and 48 rows further down
    assert groups[0].inputs[0].rows[1].tolist() == [*range(6, 12), *range(30, 36), *range(54, 60)]
    assert groups[0].out_cols[1].tolist() == list(range(6, 12))


def test_a_sams_own_groups_come_back_from_their_torch_pruning_groups() -> None:
    model = build_sam("pocket")
    for group in groups_of(model)[:2]:
        heads = {group.inputs[0].layer: group.n_units} if group.family == "heads" else {}
        found = structured_from(group.tp_group._DG, group.layer_out, _names(model), heads)
        assert found is not None
        assert torch.equal(found.inputs[0].rows, group.inputs[0].rows)
        assert torch.equal(found.out_cols, group.out_cols)
        assert (found.family, found.layers) == (group.family, group.layers)


def test_without_the_number_of_heads_each_channel_is_a_unit() -> None:
    model = plain_vit()
    first = traced_groups(_traced(model), _names(model), {})[0]
    assert (first.family, first.n_units, first.inputs[0].rows[5].tolist()) == ("heads", 24, [5, 29, 53])


def test_a_number_of_heads_that_does_not_divide() -> None:
    model = plain_vit()
    with pytest.raises(CriterionError, match=r"5 heads do not divide the 24 channels of blocks\.0\.attn\.qkv"):
        traced_groups(_traced(model), _names(model), {model.blocks[0].attn.qkv: 5})


class _Branching(nn.Module):
    """One layer that feeds two: no unit has columns in a single layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return self.left(x) + self.right(x)


@pytest.mark.parametrize(
    "model",
    [_Branching(), nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)), nn.Linear(4, 2)],
    ids=["two consumers", "a norm between", "one layer"],
)
def test_what_is_neither_heads_nor_neurons(model: nn.Module) -> None:
    assert traced_groups(_traced(model, (1, 4)), _names(model), {}) == []


def test_the_finder_lists_again_after_a_cut_only() -> None:
    model = plain_vit()
    graph = _traced(model)
    finder = UnitFinder(model, _heads(model))

    def group() -> tp.Group:
        fc2 = model.blocks[0].mlp.fc2
        return graph.get_pruning_group(fc2, tp.prune_linear_in_channels, list(range(fc2.in_features)))

    assert finder.find(group()).n_units == 48
    finder.find(group())
    assert finder.version == 1
    graph.get_pruning_group(model.blocks[0].mlp.fc2, tp.prune_linear_in_channels, [0, 1]).prune()
    assert finder.find(group()).n_units == 46
    assert finder.version == 2


def test_the_finder_does_not_keep_a_graph_alive() -> None:
    model = plain_vit()
    finder = UnitFinder(model)
    graph = _traced(model)
    finder.find(graph.get_pruning_group(model.blocks[0].mlp.fc2, tp.prune_linear_in_channels, [0]))
    assert finder._graph() is graph
    assert finder.find(_traced(model).get_pruning_group(model.head, tp.prune_linear_in_channels, [0])) is None
    assert finder.version == 2


def test_spread_gives_each_channel_the_score_of_its_unit() -> None:
    group = groups_of(build_sam("pocket"))[0]
    scores = torch.arange(12.0)
    assert torch.equal(spread(group.tp_group, group, scores), scores.repeat_interleave(10))


def test_families_that_are_known() -> None:
    assert family_known(build_sam("pocket", device="meta"))
    assert not family_known(plain_vit())
