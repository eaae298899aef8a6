"""Decodes one image at a time, in overlapping tiles: large pictures in less memory.

Not quite the same picture: group norm and attention see a tile each instead of the whole map. A
tile as large as the map changes nothing.
"""

import torch
from torch import Tensor

from nextscale.errors import UsageError, shown
from nextscale.scales import LARGEST_SIDE
from nextscale.tokenizer.tokenizer import Tokenizer

LEAST = 4  # positions; a quarter of them is what neighbours share


def decode_tiled(tokenizer: Tokenizer, accumulated: Tensor, tile: int) -> Tensor:
    """Images clamped to [-1, 1] of an accumulated map (B, C, h, w).

    Args:
        tile: side of a tile in positions of the map; a quarter of it is shared with each neighbour,
            where both fade linearly into each other.

    Raises:
        UsageError: if the tile is too small to share anything.
    """
    check_tile(tile)
    return torch.cat([decode_one(tokenizer, part, tile) for part in accumulated.split(1)])


def check_tile(tile: int) -> None:
    """Raises UsageError if a tile is too small to share anything; 0 means none."""
    if tile != 0 and not LEAST <= tile <= LARGEST_SIDE:
        raise UsageError(
            f"tile is {shown(tile)}; it must be from {LEAST} to {LARGEST_SIDE} positions, or 0"
        )


def decode_one(tokenizer: Tokenizer, accumulated: Tensor, tile: int) -> Tensor:
    """An image (1, channels, H, W) of a map (1, C, h, w); see `decode_tiled`."""
    factor = tokenizer.config.downsampling
    rows, columns = (starts(side, tile) for side in accumulated.shape[2:])
    height, width = (side * factor for side in accumulated.shape[2:])
    image = accumulated.new_zeros(1, tokenizer.config.image_channels, height, width)
    weight = accumulated.new_zeros(height, width)
    for y in rows:
        for x in columns:
            part = tokenizer.decode_accumulated(accumulated[:, :, y : y + tile, x : x + tile])
            fade = torch.outer(*(ramp(side, tile * factor // 4) for side in part.shape[2:]))
            fade = fade.to(part)
            bottom, right = y * factor + part.shape[2], x * factor + part.shape[3]
            image[:, :, y * factor : bottom, x * factor : right] += part * fade
            weight[y * factor : bottom, x * factor : right] += fade
    return image / weight


def starts(side: int, tile: int) -> list[int]:
    """Where tiles begin along a side; the last one ends where the side does."""
    last = max(0, side - tile)
    return [*range(0, last, tile - tile // 4), last]


def ramp(side: int, shared: int) -> Tensor:
    """Weights (side,) that rise from near 0 to 1 over what is shared, and fall again."""
    inward = torch.arange(side).add(0.5).div(shared)
    return torch.minimum(inward, inward.flip(0)).clamp(max=1)
