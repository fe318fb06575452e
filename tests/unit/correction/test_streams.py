import pytest
import torch
from segment_anything.modeling.image_encoder import window_partition
from tiny import TINY, tiny_batch, tiny_sam

from medcore_prune.correction import streams
from medcore_prune.correction.streams import (
    ADDING_LAYERS,
    Stream,
    bytes_of,
    first_tokens,
    fold_windows,
    observe,
    room_for,
)
from medcore_prune.models.families import blocks_of, encoder_of

MODEL = tiny_sam()


@pytest.mark.parametrize(("side", "window"), [(6, 4), (8, 4), (5, 3), (6, 0)])
def test_folding_undoes_the_partition_of_the_encoder(side: int, window: int) -> None:
    images = torch.randn(2, side, side, 3, generator=torch.Generator().manual_seed(0))
    windows = window_partition(images, window)[0] if window else images
    assert torch.equal(fold_windows(windows, 2, side, window), images)


@torch.no_grad()
def test_blocks_run_one_by_one_are_the_encoder() -> None:
    images, _, _ = tiny_batch(2)
    tokens = first_tokens(MODEL, images)
    for block in blocks_of(MODEL):
        proj, lin2 = (observe(MODEL, block, tokens, role) for role in ADDING_LAYERS)
        assert torch.equal(proj.before, tokens)
        assert torch.equal(lin2.before, proj.added.after)
        tokens = MODEL.get_submodule(block.name)(tokens)
        torch.testing.assert_close(lin2.added.after, tokens, rtol=0.0, atol=0.0)
    assert torch.equal(encoder_of(MODEL).neck(tokens.permute(0, 3, 1, 2)), encoder_of(MODEL)(images))


@torch.no_grad()
def test_observing_stops_at_the_layer_and_leaves_no_hook() -> None:
    block = blocks_of(MODEL)[0]
    tokens = first_tokens(MODEL, tiny_batch(1)[0])
    ran: list[str] = []
    handle = block.layers["lin1"].register_forward_hook(lambda *_: ran.append("lin1"))
    observe(MODEL, block, tokens, "proj")
    handle.remove()
    assert not ran
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in MODEL.modules())


@torch.no_grad()
def test_inputs_and_outputs_are_those_of_the_layer_without_padding() -> None:
    block = blocks_of(MODEL)[0]
    tokens = first_tokens(MODEL, tiny_batch(2)[0])
    side = TINY.image_size // TINY.patch_size
    assert block.window
    assert side % block.window
    for role in ADDING_LAYERS:
        seen = observe(MODEL, block, tokens, role)
        assert seen.inputs.shape[:3] == seen.output.shape[:3] == (2, side, side)
        torch.testing.assert_close(block.layers[role](seen.inputs), seen.output)


@pytest.mark.parametrize("limit_bytes", [0, 1000])
def test_room_is_what_was_asked_for_wherever_it_lies(limit_bytes: int) -> None:
    shapes = {"a": ((2, 3), torch.float32), "b": ((4,), torch.float64)}
    assert bytes_of(shapes) == 56
    with room_for(shapes, limit_bytes) as room:
        for name, (shape, dtype) in shapes.items():
            assert room[name].shape == shape
            assert room[name].dtype == dtype
            room[name].fill_(3)
            assert float(room[name].sum()) == 3 * room[name].numel()


def test_room_lies_on_the_device_as_long_as_half_of_its_free_memory_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, device = {"a": ((100,), torch.float64)}, torch.device("meta")
    for free, limit, place in ((1600, 0, "meta"), (1599, 800, "cpu"), (1599, 799, "cpu"), (None, 800, "cpu")):
        monkeypatch.setattr(streams, "available_bytes", lambda _device, free=free: free)
        with room_for(shapes, limit, device) as room:
            assert room["a"].device.type == place
            assert room["a"].shape == (100,)


@torch.no_grad()
def test_a_stream_on_the_device_of_its_model_is_not_copied() -> None:
    block, tokens = blocks_of(MODEL)[0], first_tokens(MODEL, tiny_batch(3)[0])
    room = torch.empty(3, tokens[0].numel() + 5)
    stream = Stream(room, MODEL)
    stream.write(slice(0, 3), tokens)
    assert torch.equal(stream.read(block, slice(1, 3)), tokens[1:])
    assert torch.equal(stream.read(block, [2, 0]), tokens[[2, 0]])
    assert stream.read(block, slice(0, 3)).untyped_storage().data_ptr() == room.untyped_storage().data_ptr()
    # in another number type than the model's it is
    double = Stream(torch.empty(3, tokens[0].numel(), dtype=torch.float64), MODEL)
    double.write(slice(0, 3), tokens)
    assert torch.equal(double.read(block, slice(0, 3)), tokens)
