"""Each criterion against its definition, unit by unit and number by number."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scoring import DATASETS, Layers, World, lite_world, micro_world
from torch import Tensor

from medcore_prune.calibration.collector import Need
from medcore_prune.models.families import geometry_of
from medcore_prune.models.groups import StructuredGroup
from medcore_prune.models.protocol import batch_of, input_logits, low_res_logits
from medcore_prune.scoring.registry import build_criterion, criteria

Scores = list[Tensor]
REPLICAS: list[tuple[str, dict[str, object], Callable[[World], Scores]]] = []


def replica(name: str, **settings: object) -> Callable[[Callable[..., Scores]], Callable[..., Scores]]:
    """Declare a function as the restatement of a criterion under some settings."""

    def add(restate: Callable[..., Scores]) -> Callable[..., Scores]:
        REPLICAS.append((name, settings, functools.partial(restate, **settings)))
        return restate

    return add


def entries(group: StructuredGroup, unit: int, layers: Layers) -> Tensor:
    """All numbers of one unit, in one vector: rows and biases of the first layer, columns of the second."""
    weight_in, bias_in = layers[group.inputs[0].name]
    rows, columns = group.inputs[0].rows[unit], group.out_cols[unit]
    parts = [weight_in[rows], bias_in[rows], layers[group.name_out][0][:, columns]]
    return torch.cat([part.detach().double().flatten() for part in parts])


def weights(world: World) -> Layers:
    names = [name for group in world.groups for name, _ in group.layers]
    return {name: (world.model.get_submodule(name).weight, world.model.get_submodule(name).bias) for name in names}


def each_unit(world: World, score: Callable[[StructuredGroup, int], Tensor | float]) -> Scores:
    return [torch.tensor([float(score(g, u)) for u in range(g.n_units)], dtype=torch.float64) for g in world.groups]


def over_family_mean(world: World, scores: Scores) -> Scores:
    """Every score divided by the mean magnitude of all scores of its family."""
    families = [group.family for group in world.groups]
    means = {f: torch.cat([s for s, g in zip(scores, families, strict=True) if g == f]).abs().mean() for f in families}
    return [values / means[family] for values, family in zip(scores, families, strict=True)]


def mean_and_std(world: World, by_dataset: list[Scores], beta: float, shares: list[float]) -> Scores:
    """Eq. 13 by hand, the deviation being that of the population."""
    normalised = [over_family_mean(world, scores) for scores in by_dataset]
    joined = []
    for of_group in zip(*normalised, strict=True):
        plain_mean = sum(of_group) / len(of_group)
        std = (sum((values - plain_mean) ** 2 for values in of_group) / len(of_group)).sqrt()
        joined.append(sum(w * values for w, values in zip(shares, of_group, strict=True)) + beta * std)
    return joined


def pooled(by_dataset: dict[str, Layers]) -> Layers:
    """Means over all samples: 3 of data set a, 5 of data set b."""
    first, second = (by_dataset[name] for name in DATASETS)
    return {name: tuple((3 * x + 5 * y) / 8 for x, y in zip(first[name], second[name], strict=True)) for name in first}


def zero(world: World, fisher: Layers) -> Scores:
    """Eq. 5 by Eq. 10: 1/2 sum F theta^2."""
    theta = weights(world)
    return each_unit(world, lambda g, u: 0.5 * (entries(g, u, fisher) * entries(g, u, theta) ** 2).sum())


def reset(world: World, fisher: Layers, reference_fisher: Layers | None) -> Scores:
    """Eq. 6 by Eq. 11 and 12: 1/2 sum sqrt(F_M F_S) (theta_M - theta_S)^2, or F_M alone in place of the root."""
    theta, origin = weights(world), world.tensors.reference_weights

    def cost(g: StructuredGroup, u: int) -> Tensor:
        f = entries(g, u, fisher)
        f = f if reference_fisher is None else (f * entries(g, u, reference_fisher)).sqrt()
        return 0.5 * (f * (entries(g, u, theta) - entries(g, u, origin)) ** 2).sum()

    return each_unit(world, cost)


@replica("random", seed=4)
def _random(world: World, seed: int) -> Scores:
    seeds = [seed * 1_000_003 + 2 * g.block + (g.family == "neurons") for g in world.groups]
    draws = [torch.Generator().manual_seed(s) for s in seeds]
    units = zip(world.groups, draws, strict=True)
    return [torch.rand(g.n_units, generator=rng, dtype=torch.float64) for g, rng in units]


@replica("magnitude")
@replica("magnitude", p=1)
@replica("magnitude", p=3.5)
def _magnitude(world: World, p: float = 0.5) -> Scores:
    theta = weights(world)
    return each_unit(world, lambda g, u: (entries(g, u, theta).abs() ** p).sum() ** (1 / p))


@replica("zero", aggregation="pooled")
def _zero_pooled(world: World, aggregation: str) -> Scores:
    return over_family_mean(world, zero(world, pooled(world.tensors.fisher)))


@replica("zero", beta=0.7)
def _zero(world: World, beta: float) -> Scores:
    return mean_and_std(world, [zero(world, world.tensors.fisher[k]) for k in DATASETS], beta, [0.5, 0.5])


@replica("reset", beta=0.3, weights={"a": 1.0, "b": 3.0})
def _reset(world: World, beta: float, weights: object) -> Scores:
    t = world.tensors
    parts = [reset(world, t.fisher[k], t.reference_fisher[k]) for k in DATASETS]
    return mean_and_std(world, parts, beta, [0.25, 0.75])


@replica("reset", aggregation="pooled")
def _reset_pooled(world: World, aggregation: str) -> Scores:
    parts = reset(world, pooled(world.tensors.fisher), pooled(world.tensors.reference_fisher))
    return over_family_mean(world, parts)


@replica("medcore")
@replica("medcore", alpha=0.5, beta=0.0)
@replica("medcore", alpha=1.0)
@replica("medcore", alpha=[0.2, 0.9, 0.4, 0.6], beta=2.0)
def _medcore(world: World, alpha: object = "balanced", beta: float = 1.0) -> Scores:
    t = world.tensors
    parts = []
    for k in DATASETS:
        zeros, resets = zero(world, t.fisher[k]), reset(world, t.fisher[k], t.reference_fisher[k])
        of_groups = zip(world.groups, zeros, resets, strict=True)
        shares = [
            r.mean() / (z.mean() + r.mean())
            if alpha == "balanced"
            else (alpha[g.block] if isinstance(alpha, list) else alpha)
            for g, z, r in of_groups
        ]
        parts.append([a * z + (1 - a) * r for a, z, r in zip(shares, zeros, resets, strict=True)])
    return mean_and_std(world, parts, beta, [0.5, 0.5])


@replica("medcore", alpha=0.5, normalise_terms=True, reset_fisher="adapted", aggregation="pooled")
def _original_medcore(world: World, **_: object) -> Scores:
    fisher = pooled(world.tensors.fisher)
    zeros = over_family_mean(world, zero(world, fisher))
    resets = over_family_mean(world, reset(world, fisher, None))
    return over_family_mean(world, [(z + r) / 2 for z, r in zip(zeros, resets, strict=True)])


def half_squared_slopes(world: World, need: Need, dataset: str) -> Scores:
    """METHOD section 12: 1/2 E[d^2] of each unit."""
    found = world.tensors.others[need][dataset]
    return [0.5 * found[f"{g.name_out}.units"].double() for g in world.groups]


@replica("directional_zero", beta=0.4)
def _directional_zero(world: World, beta: float) -> Scores:
    parts = [half_squared_slopes(world, Need.DIRECTIONAL_ZERO, k) for k in DATASETS]
    return mean_and_std(world, parts, beta, [0.5, 0.5])


@replica("directional_reset", aggregation="pooled")
def _directional_reset(world: World, aggregation: str) -> Scores:
    first, second = (half_squared_slopes(world, Need.DIRECTIONAL_RESET, k) for k in DATASETS)
    return over_family_mean(world, [(3 * x + 5 * y) / 8 for x, y in zip(first, second, strict=True)])


@replica("directional")
@replica("directional", alpha=1.0)
@replica("directional", alpha=[0.2, 0.9, 0.4, 0.6], beta=2.0)
def _directional(world: World, alpha: object = "balanced", beta: float = 1.0) -> Scores:
    parts = []
    for k in DATASETS:
        zeros = half_squared_slopes(world, Need.DIRECTIONAL_ZERO, k)
        resets = half_squared_slopes(world, Need.DIRECTIONAL_RESET, k)
        shares = [
            r.mean() / (z.mean() + r.mean())
            if alpha == "balanced"
            else (alpha[g.block] if isinstance(alpha, list) else alpha)
            for g, z, r in zip(world.groups, zeros, resets, strict=True)
        ]
        parts.append([a * z + (1 - a) * r for a, z, r in zip(shares, zeros, resets, strict=True)])
    return mean_and_std(world, parts, beta, [0.5, 0.5])


def least_squares_loss(world: World, group: StructuredGroup, gram: Tensor, ridge: float, gone: Tensor) -> float:
    """Smallest |X V' - X W'|^2 + r |V - W|^2 over V whose columns `gone` are zero, by lstsq on stacked equations."""
    gram = gram.double()
    r = ridge * gram.diagonal().mean()
    values, vectors = torch.linalg.eigh(gram)
    inputs = torch.cat([values.clamp(min=0).sqrt()[:, None] * vectors.T, r.sqrt() * torch.eye(len(gram)).double()])
    outputs = inputs @ world.model.get_submodule(group.name_out).weight.detach().T
    kept = [column for column in range(len(gram)) if column not in gone.flatten().tolist()]
    if not kept:
        return float(outputs.square().sum())
    fitted = inputs[:, kept] @ torch.linalg.lstsq(inputs[:, kept], outputs).solution
    return float((fitted - outputs).square().sum())


@replica("residual", rounds=1000, ridge=0.01, beta=0.3)
def _residual(world: World, rounds: int, ridge: float, beta: float) -> Scores:
    """One by one: each time every unit that is left is tried beside those that are gone already."""
    found = world.tensors.others[Need.GRAM]
    parts = []
    for k in DATASETS:
        scores = []
        for g in world.groups:
            gone: list[int] = []
            of_group = torch.zeros(g.n_units, dtype=torch.float64)
            while len(gone) < g.n_units:
                tried = {
                    u: least_squares_loss(world, g, found[k][f"{g.name_out}.gram"], ridge, g.out_cols[[*gone, u]])
                    for u in range(g.n_units)
                    if u not in gone
                }
                gone.append(min(tried, key=lambda u: tried[u]))
                of_group[gone[-1]] = tried[gone[-1]]
            scores.append(of_group)
        parts.append(scores)
    return mean_and_std(world, parts, beta, [0.5, 0.5])


@replica("residual", rounds=1)
@replica("residual", rounds=1, tokens="by_gradient")
def _residual_in_one_round(world: World, rounds: int, tokens: str = "alike") -> Scores:
    """Each unit beside all others; the loss of all is shared out in the order of, and by, their own losses."""
    need = Need.GRAM if tokens == "alike" else Need.WEIGHTED_GRAM
    parts = []
    for k in DATASETS:
        scores = []
        for g in world.groups:
            gram = world.tensors.others[need][k][f"{g.name_out}.gram"]
            alone = [least_squares_loss(world, g, gram, 1e-3, g.out_cols[u]) for u in range(g.n_units)]
            of_all = least_squares_loss(world, g, gram, 1e-3, g.out_cols)
            up_to = [sum(loss for loss in alone if loss <= own) for own in alone]
            scores.append(torch.tensor([of_all * part / sum(alone) for part in up_to], dtype=torch.float64))
        parts.append(scores)
    return mean_and_std(world, parts, 1.0, [0.5, 0.5])


@replica("taylor")
def _taylor(world: World) -> Scores:
    """|theta dL/dtheta| of a channel's weights, averaged over its two layers, over their mean, over a unit's channels.

    torch-pruning leaves biases out.
    """
    theta, gradient = weights(world), pooled(world.tensors.mean_gradient)
    scores = []
    for g in world.groups:
        first, second = ((theta[n][0] * gradient[n][0]).detach().abs() for n, _ in g.layers)
        # of a head queries, keys and values of its channels, one after the other, wherever its rows lie
        entering = [first[rows].sum(1).view(-1, g.out_cols.shape[1]).sum(0) for rows in g.inputs[0].rows]
        units = torch.stack([(own + second[:, c].sum(0)) / 2 for own, c in zip(entering, g.out_cols, strict=True)])
        scores.append((units / units.mean()).mean(1))
    return scores


@replica("disturbed_taylor", batch_size=3)
def _disturbed_taylor(world: World, batch_size: int) -> Scores:
    """Autograd's gradient of the encoder's distance to its own output with noise, image by image."""
    model, rng = world.model, torch.Generator().manual_seed(0)
    for name in DATASETS:
        for sample in world.data[name]:
            frame = geometry_of(model).frame
            embedding = model.image_encoder(batch_of([(sample.image, sample.box)], frame)[0].double())
            target = embedding.detach() + 0.01 * torch.randn(embedding.shape, generator=rng, dtype=torch.float64)
            torch.nn.functional.mse_loss(embedding, target).backward()
    names = [name for group in world.groups for name, _ in group.layers]
    layers = {name: model.get_submodule(name) for name in names}
    gradients = {name: (layer.weight.grad, layer.bias.grad) for name, layer in layers.items()}
    world.tensors.mean_gradient = dict.fromkeys(DATASETS, gradients)
    return _taylor(world)


@replica("wanda")
def _wanda(world: World) -> Scores:
    """|W_ic| |x_c|, one weight at a time; the mean square stands for the sum, which is the same for all channels."""
    found = world.tensors.others[Need.INPUT_SQUARES]

    def score(g: StructuredGroup, u: int) -> float:
        weight, total = world.model.get_submodule(g.name_out).weight.detach(), 0.0
        for c in g.out_cols[u].tolist():
            a, b = (float(found[k][f"{g.name_out}.squares"][c]) for k in DATASETS)
            for i in range(len(weight)):
                total += abs(float(weight[i, c])) * ((3 * a + 5 * b) / 8) ** 0.5
        return total

    return each_unit(world, score)


@replica("lamp")
def _lamp(world: World) -> Scores:
    theta, scores = weights(world), []
    for g in world.groups:
        squares = [float((entries(g, u, theta) ** 2).sum()) for u in range(g.n_units)]
        scores.append(torch.tensor([own / sum(s for s in squares if s >= own) for own in squares]).double())
    return scores


@replica("exact", alpha="balanced", beta=1.0, lambda_b=2.0)
def _exact(world: World, alpha: str, beta: float, lambda_b: float) -> Scores:
    parts = []
    for name in DATASETS:
        base = _risk(world, name, lambda_b)
        zeros = each_unit(world, lambda g, u, n=name, b=base: _risk_without(world, g, u, n, lambda_b, None) - b)
        resets = each_unit(
            world, lambda g, u, n=name, b=base: _risk_without(world, g, u, n, lambda_b, world.reference) - b
        )
        shares = [r.abs().mean() / (z.abs().mean() + r.abs().mean()) for z, r in zip(zeros, resets, strict=True)]
        parts.append([a * z + (1 - a) * r for a, z, r in zip(shares, zeros, resets, strict=True)])
    return mean_and_std(world, parts, beta, [0.5, 0.5])


def _risk(world: World, dataset: str, lambda_b: float) -> float:
    """Eq. 9 written out for images of 16 pixels with a band of one pixel, image by image."""
    losses = []
    for sample in world.data[dataset]:
        image, box = batch_of([(sample.image, sample.box)], geometry_of(world.model).frame)
        with torch.no_grad():
            logits = input_logits(low_res_logits(world.model, image.double(), box.double()), 16)[0, 0]
        band = _band(sample.mask.tobytes())
        p, y = logits.sigmoid(), torch.from_numpy(sample.mask).double()
        dice = 1 - (2 * (p * y).sum() + 1e-5) / ((p * p).sum() + y.sum() + 1e-5)
        bce = -(y * p.log() + (1 - y) * (1 - p).log())
        losses.append(float(dice + ((1 + lambda_b * band) * bce).mean()))
    return sum(losses) / len(losses)


@functools.cache
def _band(mask: bytes) -> Tensor:
    y, band = torch.from_numpy(np.frombuffer(mask, bool).reshape(16, 16).copy()), torch.zeros(16, 16)
    for r in range(16):
        for c in range(16):
            around = y[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2]
            band[r, c] = float(around.any() and not around.all())
    return band


def _risk_without(
    world: World, group: StructuredGroup, unit: int, dataset: str, lambda_b: float, source: object
) -> float:
    """The risk with one unit's rows, biases and columns replaced, in the state of the model."""
    kept = {key: value.clone() for key, value in world.model.state_dict().items()}
    changed = {key: value.clone() for key, value in kept.items()}
    others = {key: value * 0 for key, value in kept.items()} if source is None else source.state_dict()
    rows, columns = group.inputs[0].rows[unit], group.out_cols[unit]
    for key in (f"{group.inputs[0].name}.weight", f"{group.inputs[0].name}.bias"):
        changed[key][rows] = others[key][rows]
    key = f"{group.name_out}.weight"
    changed[key][:, columns] = others[key][:, columns]
    world.model.load_state_dict(changed)
    value = _risk(world, dataset, lambda_b)
    world.model.load_state_dict(kept)
    return value


@pytest.mark.parametrize("make", [micro_world, lite_world])
@pytest.mark.parametrize(
    ("name", "settings", "restate"), [pytest.param(*case, id=f"{case[0]} {case[1] or ''}") for case in REPLICAS]
)
def test_a_criterion_is_what_its_definition_says(
    name: str, settings: dict[str, object], restate: Callable[[World], Scores], make: Callable[[], World]
) -> None:
    world = make()
    # a share for each block, of which the worlds have different numbers
    blocks = len({group.block for group in world.groups})
    settings = {key: value[:blocks] if isinstance(value, list) else value for key, value in settings.items()}
    silent = {"progress": False} if name == "exact" else {}
    scores = build_criterion(name, **{**world.inputs, **silent, **settings}).score_all(world.groups)
    for values, expected in zip(scores, restate(world), strict=True):
        torch.testing.assert_close(values.double(), expected, rtol=1e-5, atol=1e-9)


def test_every_built_in_criterion_has_a_replica() -> None:
    built_in = {entry.name for entry in criteria.entries() if entry.origin == "built-in"}
    assert built_in == {name for name, _, _ in REPLICAS}
