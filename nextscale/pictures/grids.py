"""Puts pictures together for the eye: a grid of them, and an animation. It knows Pillow alone."""

import math
from collections.abc import Sequence
from typing import IO

from PIL import Image

TINY = 64  # pixels; pictures with shorter sides are enlarged
ENLARGEMENT = 4
GAP = 4  # pixels between pictures of a grid
FRAME, LAST_FRAME = 500, 2500  # milliseconds


def grid(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures of one size in rows on white, tiny ones enlarged; rows may differ in length."""
    cells = [[enlarge(picture) for picture in row] for row in rows]
    width, height = cells[0][0].size
    columns = max(map(len, cells))
    size = columns * (width + GAP) - GAP, len(cells) * (height + GAP) - GAP
    whole = Image.new(cells[0][0].mode, size, "white")
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            whole.paste(cell, (j * (width + GAP), i * (height + GAP)))
    return whole


def enlarge(picture: Image.Image) -> Image.Image:
    """A tiny picture with each pixel a square; any other as it is."""
    if max(picture.size) >= TINY:
        return picture
    size = picture.width * ENLARGEMENT, picture.height * ENLARGEMENT
    return picture.resize(size, Image.Resampling.NEAREST)


def square(count: int) -> int:
    """Columns of a grid of pictures that is about as wide as high; a few pictures share one row."""
    return count if count <= 10 else math.ceil(math.sqrt(count))


def write_animation(file: IO[bytes], frames: Sequence[Image.Image]) -> None:
    """Writes an endless GIF that holds its last frame longer."""
    frames[0].save(
        file,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[FRAME] * (len(frames) - 1) + [LAST_FRAME],
        loop=0,
    )
