"""Statistics and correction of an encoder with unequal blocks, each against the plain loop.

A TinyViT norms behind the padding of its windows, so that padded tokens act as keys and values; lays `qkv` out head by
head; and has convolutions inside its blocks and between its stages (METHOD section 13).
"""

import copy

import pytest
import torch
from lite import LITE, lite_batch, tiny_lite
from tiny_samples import TinySamples
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune.calibration.collector import prunable_layers
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.data.frame import Frame
from medcore_prune.models.families import blocks_of, encoder_of
from medcore_prune.models.family import Block
from medcore_prune.models.losses import plain_loss
from medcore_prune.models.protocol import batch_of, input_logits, low_res_logits

COUNT = 3


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_lite().double()


@pytest.fixture(scope="module")
def gradients(model: nn.Module) -> list[dict[str, Tensor]]:
    """Each sample's own, by autograd, of every parameter; batch statistics must not move, so the mode is eval."""
    images, boxes, masks = lite_batch(COUNT)
    found = []
    for n in range(COUNT):
        model.zero_grad()
        logits = input_logits(low_res_logits(model, images[n : n + 1].double(), boxes[n : n + 1]), 32)
        plain_loss(logits, masks[n : n + 1]).sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    return found


@pytest.fixture(scope="module", params=[1, 3])
def sums(request: pytest.FixtureRequest, model: nn.Module) -> Accumulator:
    images, boxes, masks = lite_batch(COUNT)
    made = Accumulator(model, ("fisher", "gradient", "directional_zero", "gram"), ("plain",))
    for start in range(0, COUNT, request.param):
        part = slice(start, start + request.param)
        made.add(images[part].double(), boxes[part], masks[part])
    return made


def test_the_fisher_of_every_layer(sums: Accumulator, gradients: list[dict[str, Tensor]], model: nn.Module) -> None:
    names = [f"{layer}.{kind}" for layer in prunable_layers(model) for kind in ("weight", "bias")]
    assert len(names) == 4 * 4 * 2
    for name in names:
        expected = sum(each[name].square() for each in gradients)
        torch.testing.assert_close(sums.sums["fisher"][f"plain_plain/{name}"], expected, rtol=1e-8, atol=1e-14)


def test_padding_takes_part_in_the_fisher_of_qkv(gradients: list[dict[str, Tensor]], model: nn.Module) -> None:
    """The check that the one above is about padding at all: without it the gradient of `qkv` is another."""
    block = blocks_of(model)[0]
    images, boxes, _ = lite_batch(1)
    seen: list[Tensor] = []
    handle = block.layers["qkv"].register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach()))
    low_res_logits(model, images.double(), boxes)
    handle.remove()
    windows = seen[0].view(6, 6, 3, 3, -1)
    # 16 tokens in windows of 3: the last row and column of windows have two of padding, all of them the norm's bias
    padding = windows[-1, :, 1:].reshape(-1, windows.shape[-1])
    assert torch.allclose(padding, block.attention.norm.bias)
    assert float(block.attention.norm.bias.abs().max()) > 0.1


def test_slopes_of_units(sums: Accumulator, gradients: list[dict[str, Tensor]], model: nn.Module) -> None:
    for group in mp.groups_of(model):
        weight = group.layer_out.weight.detach()
        slopes = [(each[f"{group.name_out}.weight"] * weight).sum(0)[group.out_cols].sum(1) for each in gradients]
        expected = sum(slope.square() for slope in slopes)
        got = sums.sums["directional_zero"][f"plain_plain/{group.name_out}.units"]
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-16)


def on_the_grid(tokens: Tensor, block: Block, windowed: bool) -> Tensor:
    """Tokens of one image as they lie in it, (side * side, C), read one by one from where padding leaves them."""
    side, window = block.tokens_side, block.window
    if not windowed:
        return tokens.reshape(side * side, -1)
    across = -(-side // window)
    grid = tokens.reshape(across, across, window, window, -1)
    places = [(r // window, c // window, r % window, c % window) for r in range(side) for c in range(side)]
    return torch.stack([grid[place] for place in places])


def run(model: nn.Module, image: Tensor, index: int, role: str) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs and output of a layer, and the stream before it, for one image through the whole encoder."""
    block = blocks_of(model)[index]
    module = model.get_submodule(block.name)
    seen: dict[str, Tensor] = {}
    handles = [
        block.layers[role].register_forward_hook(lambda _m, args, out: seen.update(inputs=args[0], output=out)),
        # a block's input is the stream before `proj`; behind the convolution the MLP reads the one before `lin2`
        (module if role == "proj" else module.mlp).register_forward_pre_hook(
            lambda _m, args: seen.update(before=args[0])
        ),
    ]
    encoder_of(model)(image)
    for handle in handles:
        handle.remove()
    windowed = role == "proj"
    return (
        on_the_grid(seen["inputs"], block, windowed),
        on_the_grid(seen["output"], block, windowed),
        on_the_grid(seen["before"], block, False),
    )


@torch.no_grad()
def test_inputs_of_layers_are_summed_without_padding(sums: Accumulator, model: nn.Module) -> None:
    images, _, _ = lite_batch(COUNT)
    for index, block in enumerate(blocks_of(model)):
        for role in ("proj", "lin2"):
            inputs = [run(model, image[None].double(), index, role)[0] for image in images]
            expected = sum(x.T @ x for x in inputs)
            got = sums.sums["gram"][f"total/{block.layer_names[role]}.gram"]
            torch.testing.assert_close(got.to(expected), expected, rtol=1e-6, atol=1e-8)


@torch.no_grad()
def corrected_slowly(small: nn.Module, teacher: nn.Module, images: list[Tensor]) -> None:
    for index, block in enumerate(blocks_of(small)):
        for role in ("proj", "lin2"):
            layer = block.layers[role]
            rows, wanted = [], []
            for image in images:
                x, _, ours = run(small, image, index, role)
                _, theirs, before = run(teacher, image, index, role)
                rows.append(x)
                wanted.append(before + theirs - ours - layer.bias)
            x, t = torch.cat(rows), torch.cat(wanted)
            ridge = 1e-3 * x.square().sum(0).mean()
            pull = ridge.sqrt() * torch.eye(layer.in_features, dtype=x.dtype)
            tall, right = torch.cat([x, pull]), torch.cat([t, ridge.sqrt() * layer.weight.T])
            layer.weight.copy_(torch.linalg.lstsq(tall, right, driver="gelsd").solution.T)


def test_correction_is_dense_least_squares(model: nn.Module) -> None:
    samples = TinySamples("a", 3)
    fast = mp.prune(model, mp.plan(model, "h50_m50", "random", protect=0))
    slow = copy.deepcopy(fast)
    report = mp.correct(
        fast, model, {"a": samples}, weighting="none", values=False, samples=3, batch_size=2, progress=False
    )
    frame = Frame(LITE.image_size, padded=True)
    corrected_slowly(slow, model, [batch_of([(s.image, s.box)], frame)[0].double() for s in samples])
    for (name, one), other in zip(fast.named_parameters(), slow.parameters(), strict=True):
        assert float((one - other).norm()) <= 1e-6 * float(other.norm()), name
    assert [layer.tokens for layer in report.layers[::2]] == [3 * 16**2, 3 * 16**2, 3 * 8**2, 3 * 8**2]
    # the stream that the report compares is the one behind the last block
    ours, theirs = (torch.cat([_last(m, s, frame) for s in samples]) for m in (fast, model))
    assert report.stream_error == pytest.approx(float((ours - theirs).norm() / theirs.norm()), rel=1e-6)


def _last(model: nn.Module, sample: object, frame: Frame) -> Tensor:
    image = batch_of([(sample.image, sample.box)], frame)[0].double()  # type: ignore[attr-defined]
    seen: list[Tensor] = []
    last = model.get_submodule(blocks_of(model)[-1].name)
    handle = last.register_forward_hook(lambda _m, _a, out: seen.append(out))
    with torch.no_grad():
        encoder_of(model)(image)
    handle.remove()
    return seen[0]


def test_values_of_heads_are_fitted_where_few_are_left(model: nn.Module) -> None:
    samples = TinySamples("a", 4)
    plan = mp.plan(model, "h60_m50", "random", protect=0)
    errors = []
    for values in (False, True):
        small = mp.prune(model, plan)
        report = mp.correct(small, model, {"a": samples}, weighting="none", values=values, progress=False)
        assert all(layer.residual_after <= layer.residual_before + 1e-9 for layer in report.layers)
        errors.append(report.stream_error)
    assert errors[1] < errors[0]
