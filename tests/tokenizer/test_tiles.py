"""Tiles cover the map, fade into each other, and change little."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nextscale.checkpoints import checkpoint
from nextscale.errors import UsageError
from nextscale.tokenizer.tiles import LEAST, decode_tiled, ramp, starts


@given(st.integers(1, 70), st.integers(LEAST, 40))
def test_tiles_cover_a_side_and_share_a_quarter(side: int, tile: int) -> None:
    begins = starts(side, tile)
    assert begins[0] == 0
    assert begins[-1] + tile == max(side, tile)
    for before, after in pairwise(begins):
        assert 0 < after - before <= tile - tile // 4


def test_neighbours_fade_into_each_other() -> None:
    weights = ramp(16, 4)
    assert torch.equal(weights, weights.flip(0))
    assert torch.equal(weights[:4] + weights[-4:], torch.ones(4))
    assert torch.equal(weights[4:-4], torch.ones(8))


@torch.inference_mode()
def test_a_tile_as_large_as_the_map_decodes_as_always(tokenizer) -> None:
    accumulated = torch.randn(3, 4, 4, 4)
    whole = tokenizer.decode_accumulated(accumulated)
    for tile in (4, 9):
        tiled = decode_tiled(tokenizer, accumulated, tile)
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_tiles_of_a_trained_decoder_keep_the_picture() -> None:
    pipe = checkpoint.load("fashion-mnist")
    (state,) = list(pipe.states(["Bag"], seed=0))[-1:]
    wide = state.accumulated.repeat(1, 1, 1, 2)[:, :, :, :11]  # 7x11 positions
    whole = pipe.tokenizer.decode_accumulated(wide)
    tiled = decode_tiled(pipe.tokenizer, wide, 6)
    assert tiled.shape == whole.shape == (1, 1, 28, 44)
    error = (tiled - whole).square().mean().sqrt().item()
    assert 0 < error < 0.5 * whole.std().item()
    assert not torch.equal(state.image(tile=4), state.image())


def test_tiles_that_share_nothing_are_refused(tokenizer) -> None:
    with pytest.raises(UsageError, match="tile is 3; it must be from 4"):
        decode_tiled(tokenizer, torch.zeros(1, 4, 4, 4), 3)
