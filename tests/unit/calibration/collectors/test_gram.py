"""Gram matrices: which tokens enter, and what the sums are."""

import numpy as np
import pytest
import torch
from segment_anything.modeling.image_encoder import window_partition
from tiny import tiny_batch, tiny_sam
from torch import Tensor, nn

from medcore_prune.calibration.collectors.inputs import real_tokens
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.models.families import blocks_of, geometry_of


@pytest.mark.parametrize(("side", "window"), [(6, 4), (12, 6), (7, 7), (5, 9), (64, 14)])
def test_real_tokens_are_those_that_partition_did_not_add(side: int, window: int) -> None:
    windows, _ = window_partition(torch.ones(1, side, side, 1), window)
    expected = windows.flatten().bool()
    assert np.array_equal(real_tokens(side, window), expected.numpy())
    assert int(expected.sum()) == side**2


def test_global_attention_pads_nothing() -> None:
    assert real_tokens(5, 0).tolist() == [True] * 25


def seen(model: nn.Module, layer_name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and outputs of a layer for one image, by a hook of the test's own."""
    caught: list[tuple[Tensor, Tensor]] = []
    layer = model.get_submodule(layer_name)
    handle = layer.register_forward_hook(lambda module, inputs, output: caught.append((inputs[0], output)))
    model.image_encoder(images)  # type: ignore[union-attr,operator]
    handle.remove()
    return caught[0][0].detach(), caught[0][1].detach()


def test_grams_are_sums_over_tokens_of_the_image() -> None:
    """Block 0 has windows of 4 over 6 x 6 tokens: 64 places, 36 of the image."""
    model = tiny_sam()
    batch = tiny_batch(2)
    sums = Accumulator(model, ("gram",))
    sums.add(*batch)
    side = geometry_of(model).tokens_side
    for block in blocks_of(model)[:2]:
        for role in ("proj", "lin2"):
            expected = torch.zeros(())
            for image in batch[0]:
                inputs = seen(model, block.layer_names[role], image[None])[0]
                if role == "proj" and block.window:
                    # the four windows cover 8 x 8 places: put them together and cut the image out
                    inputs = inputs.view(2, 2, 4, 4, -1).permute(0, 2, 1, 3, 4).reshape(8, 8, -1)[:side, :side]
                tokens = inputs.reshape(side * side, -1).detach()
                expected = expected + sum(torch.outer(token, token) for token in tokens)
            got = sums.sums["gram"][f"total/{block.layer_names[role]}.gram"]
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_input_squares_are_the_diagonal() -> None:
    model = tiny_sam()
    sums = Accumulator(model, ("gram", "input_squares"))
    sums.add(*tiny_batch(2))
    squares = sums.sums["input_squares"]
    assert len(squares) == 2 * len(blocks_of(model))
    for key, found in squares.items():
        gram = sums.sums["gram"][key.replace(".squares", ".gram")]
        torch.testing.assert_close(found, gram.diagonal(), rtol=1e-5, atol=1e-6 * float(gram.max()))


def test_padding_would_have_changed_them() -> None:
    model, images = tiny_sam(), tiny_batch(1)[0]
    inputs = seen(model, blocks_of(model)[0].layer_names["proj"], images)[0].reshape(64, -1)
    padding = inputs[~real_tokens(6, 4)]
    assert float(padding.square().sum()) > 0.01 * float(inputs.square().sum())


def test_weights_are_squared_gradients_of_the_tokens() -> None:
    """On every token alike they would be a factor; summed over both orders they give |d0 + lambda d1|^2."""
    model = tiny_sam()
    watched: dict[str, tuple[Tensor, ...]] = {}
    sums = Accumulator(model, ("weighted_gram",))
    collector = sums._collectors["weighted_gram"]
    original = collector.contribute

    def spy(layer_name: str, batch: object) -> object:
        watched[layer_name] = (batch.inputs, *batch.gradients)  # type: ignore[attr-defined]
        return original(layer_name, batch)  # type: ignore[arg-type]

    collector.contribute = spy  # type: ignore[method-assign,assignment]
    sums.add(*tiny_batch(2))
    name, lambda_b = blocks_of(model)[1].layer_names["lin2"], 3.0
    inputs, plain, band = (values.flatten(0, 1).double() for values in watched[name])
    tokens = zip(inputs, plain + lambda_b * band, strict=True)
    expected = sum(float(d @ d) * torch.outer(x, x) for x, d in tokens)
    found = sums.sums["weighted_gram"]
    powers = {"plain_plain": 1.0, "plain_band": lambda_b, "band_band": lambda_b**2}
    got = sum(factor * found[f"{key}/{name}.gram"].double() for key, factor in powers.items())
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
