"""Criteria inside torch-pruning's own pruners, and torch-pruning's importances inside this package."""

import copy
import warnings

import pytest
import torch
import torch_pruning as tp
from plain_vit import PlainViT, plain_vit
from scoring import Tensors, micro_world, random_others
from torch import Tensor, nn

from medcore_prune._support.errors import CriterionError, StatisticsError
from medcore_prune.pruning.planning import make_plan, plan
from medcore_prune.pruning.surgery import prune
from medcore_prune.scoring.adapters import as_criterion
from medcore_prune.scoring.criterion import Criterion, unit_scores
from medcore_prune.scoring.registry import available_criteria, build_criterion, get_criterion

# what runs images does so under MedSAM's protocol, and a classifier is no SAM
ON_ANY_MODEL = [name for name in available_criteria() if not get_criterion(name).reads_images()]
LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def _statistics(model: PlainViT) -> object:
    layers = {
        f"blocks.{b}.{name}": block.get_submodule(name) for b, block in enumerate(model.blocks) for name in LAYERS
    }
    tensors = Tensors.random(layers)
    tensors.others = random_others({name: _sizes(model, name) for name in layers if name.endswith(("proj", "fc2"))})
    return tensors.statistics()


def _sizes(model: PlainViT, layer_out: str) -> tuple[int, int]:
    """Units and inputs of an output layer: heads of an attention, neurons of an MLP."""
    inputs, owner = model.get_submodule(layer_out).in_features, model.get_submodule(layer_out.rpartition(".")[0])
    return getattr(owner, "num_heads", inputs), inputs


def _pruned(model: PlainViT, importance: object, pruner: type = tp.pruner.BasePruner, **options: object) -> PlainViT:
    heads = {block.attn.qkv: block.attn.num_heads for block in model.blocks}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(importance, Criterion):
            importance.bind(model, num_heads=heads)
        settings = {"pruning_ratio": 0.5, "head_pruning_ratio": 0.5, "ignored_layers": [model.head]} | options
        made = pruner(
            model,
            torch.zeros(1, 3, 16, 16),
            importance=importance,
            num_heads=heads,
            prune_num_heads=True,
            prune_head_dims=False,
            **settings,
        )
        made.step()
    for block in model.blocks:
        block.attn.num_heads = heads[block.attn.qkv]
    return model


@pytest.mark.parametrize("name", ON_ANY_MODEL)
def test_a_pruner_cuts_a_plain_vit_by_any_criterion(name: str) -> None:
    model = plain_vit()
    _pruned(model, build_criterion(name, statistics=_statistics(model), seed=0))
    assert [block.attn.num_heads for block in model.blocks] == [2, 2]
    assert [block.mlp.fc1.out_features for block in model.blocks] == [24, 24]
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


@pytest.mark.parametrize("name", ON_ANY_MODEL)
def test_a_pruner_ranks_globally_by_any_criterion(name: str) -> None:
    model = plain_vit()
    _pruned(model, build_criterion(name, statistics=_statistics(model), seed=0), global_pruning=True)
    assert sum(block.attn.num_heads for block in model.blocks) == 4
    # torch-pruning ranks neurons together with the attention's channels, so that their number is open
    assert 0 < sum(block.mlp.fc1.out_features for block in model.blocks) < 96
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_a_pruner_removes_the_lowest_units() -> None:
    model = plain_vit()
    dense = copy.deepcopy(model)
    statistics = _statistics(model)
    _pruned(model, build_criterion("zero", statistics=statistics, aggregation="pooled"))
    fisher = {name: (3 * a[0] + 5 * b[0], 3 * a[1] + 5 * b[1]) for name, (a, b) in _pairs(statistics, dense).items()}
    for b, (cut, whole) in enumerate(zip(model.blocks, dense.blocks, strict=True)):
        f_in, f_out = fisher[f"blocks.{b}.mlp.fc1"], fisher[f"blocks.{b}.mlp.fc2"]
        fc1, fc2 = whole.mlp.fc1, whole.mlp.fc2
        costs = (f_in[0] * fc1.weight**2).sum(1) + f_in[1] * fc1.bias**2 + (f_out[0] * fc2.weight**2).sum(0)
        kept = costs.argsort(descending=True)[:24].sort().values
        torch.testing.assert_close(cut.mlp.fc1.weight, fc1.weight[kept])
        torch.testing.assert_close(cut.mlp.fc2.weight, fc2.weight[:, kept])


def _pairs(statistics: object, model: nn.Module) -> dict[str, tuple[tuple[Tensor, Tensor], ...]]:
    names = [name for name, _ in model.named_modules() if name.startswith("blocks.") and name.endswith(LAYERS)]
    return {name: tuple(statistics.fisher(dataset, name) for dataset in ("a", "b")) for name in names}


def test_without_the_number_of_heads_torch_pruning_averages_channels() -> None:
    first, second = plain_vit(), plain_vit()
    statistics = _statistics(first)
    heads = {block.attn.qkv: 4 for block in second.blocks}
    with_heads = build_criterion("zero", statistics=statistics, aggregation="pooled").bind(second, num_heads=heads)
    without = build_criterion("zero", statistics=statistics, aggregation="pooled").bind(first)
    scores = []
    for model, criterion in ((first, without), (second, with_heads)):
        graph = tp.DependencyGraph().build_dependency(model, torch.zeros(1, 3, 16, 16), verbose=False)
        proj = model.blocks[0].attn.proj
        channels = criterion(graph.get_pruning_group(proj, tp.prune_linear_in_channels, list(range(24))))
        scores.append(channels.view(4, 6).mean(1))
    torch.testing.assert_close(scores[0], scores[1])


def test_magnitude_agrees_with_a_magnitude_pruner_on_neurons() -> None:
    ours, theirs = plain_vit(), plain_vit()
    _pruned(ours, build_criterion("magnitude", p=2), tp.pruner.MagnitudePruner, head_pruning_ratio=0.0)
    importance = tp.importance.GroupMagnitudeImportance(p=2, group_reduction="sum", bias=True)
    _pruned(theirs, importance, tp.pruner.MagnitudePruner, head_pruning_ratio=0.0)
    for one, other in zip(ours.blocks, theirs.blocks, strict=True):
        assert torch.equal(one.mlp.fc1.weight, other.mlp.fc1.weight)


def test_a_residual_stream_stays_whole_where_statistics_say_nothing_of_it() -> None:
    model = plain_vit()
    heads = {block.attn.qkv: 4 for block in model.blocks}
    criterion = build_criterion("zero", statistics=_statistics(model)).bind(model, num_heads=heads)
    graph = tp.DependencyGraph().build_dependency(model, torch.zeros(1, 3, 16, 16), verbose=False)
    stream = graph.get_pruning_group(model.patch_embed, tp.prune_conv_out_channels, list(range(24)))
    with pytest.warns(UserWarning, match="Zero scores heads and MLP neurons only: the channels of patch_embed"):
        assert criterion(stream) is None


def test_magnitude_and_random_score_convolutions_too() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    graph = tp.DependencyGraph().build_dependency(model, torch.zeros(1, 3, 8, 8))
    group = graph.get_pruning_group(model[0], tp.prune_conv_out_channels, list(range(8)))
    squares = model[0].weight.square().sum((1, 2, 3)) + model[0].bias.square()
    squares = squares + model[1].weight.square() + model[1].bias.square() + model[3].weight.square().sum((0, 2, 3))
    torch.testing.assert_close(build_criterion("magnitude", p=2)(group), squares.sqrt().detach())
    drawn = build_criterion("random", seed=3)(group)
    assert drawn.shape == (8,)
    assert torch.equal(drawn, build_criterion("random", seed=3)(group))


@pytest.mark.parametrize("name", ON_ANY_MODEL)
def test_a_pruner_cuts_the_mlps_of_a_sam(name: str) -> None:
    world = micro_world()
    criterion = build_criterion(name, **world.inputs)
    kept = unit_scores(criterion, world.model)[0, "neurons"].argsort(descending=True)[:12].sort().values
    mlp = world.model.image_encoder.blocks[0].mlp
    weight = mlp.lin1.weight.detach().clone()
    # the criterion is bound to the whole model, torch-pruning sees one MLP
    example = torch.zeros(1, 4, 6, dtype=torch.float64)
    tp.pruner.BasePruner(mlp, example, importance=criterion, pruning_ratio=0.5, ignored_layers=[mlp.lin2]).step()
    assert torch.equal(mlp.lin1.weight, weight[kept])
    assert mlp.lin2.in_features == 12


def test_statistics_of_a_cut_layer_are_refused() -> None:
    world = micro_world()
    criterion = build_criterion("zero", **world.inputs).bind(world.model)
    world.groups[1].tp_subgroup([0, 1]).prune()
    with pytest.raises(StatisticsError, match=r"blocks\.0\.mlp\.lin1 has shape \(22, 6\), its statistics \(24, 6\)"):
        criterion(world.groups[1].tp_group)


def test_a_group_of_another_model_is_refused() -> None:
    world, other = micro_world(), micro_world()
    criterion = build_criterion("zero", **world.inputs).bind(plain_vit())
    with pytest.raises(CriterionError, match="bound to a model that does not hold this layer"):
        criterion(other.groups[0].tp_group)


@pytest.mark.parametrize(
    "importance",
    [
        tp.importance.MagnitudeImportance(p=1),
        tp.importance.LAMPImportance(),
        tp.importance.RandomImportance(),
        tp.importance.FPGMImportance(),
    ],
    ids=lambda importance: type(importance).__name__,
)
def test_any_torch_pruning_importance_makes_a_plan(importance: tp.importance.Importance) -> None:
    world = micro_world()
    state = torch.random.get_rng_state()
    scores = unit_scores(as_criterion(importance), world.model)
    assert torch.equal(torch.random.get_rng_state(), state)
    made = make_plan(world.model, "h30_m50", scores=scores, protect=0)
    assert prune(world.model, made).image_encoder.blocks[0].mlp.lin1.out_features == 12
    direct = plan(world.model, "h30_m50", importance, protect=0)
    assert (direct.hash, direct.criterion) == (made.hash, type(importance).__name__)


def test_a_criterion_object_makes_a_plan() -> None:
    world = micro_world()
    direct = plan(world.model, "h30_m50", build_criterion("zero", **world.inputs))
    assert direct.hash == plan(world.model, "h30_m50", "zero", statistics=world.tensors.statistics()).hash


def test_an_importance_becomes_heads_by_the_mean_over_channels() -> None:
    world = micro_world()
    heads, neurons = world.groups[:2]
    importance = tp.importance.MagnitudeImportance(p=2)
    criterion = as_criterion(importance)
    torch.testing.assert_close(criterion.score(heads), importance(heads.tp_group).detach().view(3, 2).mean(1))
    torch.testing.assert_close(criterion.score(neurons), importance(neurons.tp_group).detach())
    assert get_criterion("magnitude") is not type(criterion)
