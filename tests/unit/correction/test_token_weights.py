"""Weightings against their definitions, one image and one token at a time."""

from collections.abc import Callable

import pytest
import torch
from tiny import TINY, tiny_batch, tiny_sam
from torch import Tensor, nn

from medcore_prune.correction.token_weights import (
    WEIGHTINGS,
    adding_layers,
    band_weights,
    gradient_norm_weights,
    gradient_weights,
)
from medcore_prune.data.masks import band_radius, boundary_band
from medcore_prune.defaults import DEFAULTS
from medcore_prune.models.families import blocks_of
from medcore_prune.models.losses import boundary_loss
from medcore_prune.models.protocol import input_logits, low_res_logits

SIDE, PATCH = TINY.image_size // TINY.patch_size, TINY.patch_size
MODEL = tiny_sam()


def own_masks(images: Tensor, boxes: Tensor) -> Tensor:
    with torch.no_grad():
        return input_logits(low_res_logits(MODEL, images, boxes), TINY.image_size) > 0


@pytest.mark.parametrize("name", sorted(set(WEIGHTINGS) - {"none"}))
def test_every_image_weighs_the_same(name: str) -> None:
    images, boxes, _ = tiny_batch(3)
    weights = WEIGHTINGS[name](MODEL, images, boxes)
    assert set(weights) == set(adding_layers(MODEL))
    for value in weights.values():
        assert value.shape == (3, SIDE, SIDE)
        assert bool((value >= 0).all())
        torch.testing.assert_close(value.mean((1, 2)), torch.ones(3))


def test_no_weights_weigh_nothing() -> None:
    images, boxes, _ = tiny_batch(2)
    assert WEIGHTINGS["none"](MODEL, images, boxes) == {}


def test_band_weights_count_the_pixels_of_the_teachers_band() -> None:
    images, boxes, _ = tiny_batch(2)
    masks = own_masks(images, boxes)
    assert 0 < masks.float().mean() < 1, "the model must predict something for this to be a test"
    band = boundary_band(masks, band_radius(TINY.image_size))
    got = band_weights(MODEL, images, boxes)
    for image in range(2):
        raw = torch.tensor(
            [
                [
                    1
                    + DEFAULTS.lambda_b
                    * float(band[image, 0, r * PATCH : (r + 1) * PATCH, c * PATCH : (c + 1) * PATCH].mean())
                    for c in range(SIDE)
                ]
                for r in range(SIDE)
            ]
        )
        for value in got.values():
            torch.testing.assert_close(value[image], raw / raw.mean())


def output_gradients(image: Tensor, box: Tensor) -> dict[str, Tensor]:
    """dL/d(output) of each layer for one image, by autograd's own bookkeeping."""
    mask = own_masks(image, box)
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: object, output: Tensor) -> None:
            output.retain_grad()
            outputs[name] = output

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in adding_layers(MODEL).items()]
    logits = input_logits(low_res_logits(MODEL, image, box), TINY.image_size)
    band = boundary_band(mask, band_radius(TINY.image_size))
    boundary_loss(logits, mask.float(), band, DEFAULTS.lambda_b).sum().backward()
    for handle in handles:
        handle.remove()
    MODEL.zero_grad(set_to_none=True)
    return {name: output.grad for name, output in outputs.items() if output.grad is not None}


def without_padding(windows: Tensor) -> Tensor:
    """(windows, w, w) of one image to (side, side)."""
    w, across = TINY.window, -(-SIDE // TINY.window)
    return torch.stack(
        [torch.stack([windows[(r // w) * across + c // w, r % w, c % w] for c in range(SIDE)]) for r in range(SIDE)]
    )


def test_gradient_weights_are_squared_gradients_of_the_layers_output() -> None:
    images, boxes, _ = tiny_batch(2, seed=4)
    got = gradient_weights(MODEL, images, boxes)
    roots = gradient_norm_weights(MODEL, images, boxes)
    for index in range(2):
        gradients = output_gradients(images[index : index + 1], boxes[index : index + 1])
        assert set(gradients) == set(got)
        for block in blocks_of(MODEL):
            for role in ("proj", "lin2"):
                squares = gradients[block.layer_names[role]].square().sum(-1)
                squares = without_padding(squares) if role == "proj" and block.window else squares[0]
                expected = squares / squares.mean()
                torch.testing.assert_close(got[block.layer_names[role]][index], expected, rtol=1e-3, atol=1e-5)
                root = squares.sqrt() / squares.sqrt().mean()
                torch.testing.assert_close(roots[block.layer_names[role]][index], root, rtol=1e-3, atol=1e-5)
