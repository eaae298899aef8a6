"""Holes to be filled: what is known of an image, and what is not."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

STROKES = 4  # of each image
SEED = 0  # of the strokes


def known_in(kind: str, images: int, side: int) -> Tensor:
    """What is known of square images, bool (B, side, side).

    Args:
        kind: `centre` (a square of half the side), `half` (the right one), `strokes` (random lines,
            others in each image) or `border` (all but a square of half the side).
        images: B.
        side: in pixels.
    """
    quarter = slice(side // 4, side - side // 4)
    known = torch.ones(images, side, side, dtype=torch.bool)
    if kind == "centre":
        known[:, quarter, quarter] = False
    elif kind == "half":
        known[:, :, side // 2 :] = False
    elif kind == "border":
        known[:] = False
        known[:, quarter, quarter] = True
    else:
        known = torch.stack([~strokes(i, side) for i in range(images)])
    return known


def strokes(image: int, side: int) -> Tensor:
    """Random lines, bool (side, side)."""
    random = np.random.default_rng((SEED, image))
    picture = Image.new("1", (side, side))
    pen = ImageDraw.Draw(picture)
    for _ in range(STROKES):
        ends = [tuple(point) for point in random.integers(0, side, (2, 2)).tolist()]
        pen.line(ends, fill=1, width=max(1, side // 8))
    return torch.from_numpy(np.array(picture))


def distance_to_hole(known: Tensor, most: int) -> Tensor:
    """Steps from each pixel to the nearest unknown one, int64 (B, H, W), at most `most`."""
    reached = (~known).float()[:, None]
    distance = torch.full(known.shape, most)
    distance[~known] = 0
    for step in range(1, most):
        reached = torch.nn.functional.max_pool2d(reached, 3, stride=1, padding=1)
        distance[(reached[:, 0] > 0) & (distance == most)] = step
    return distance
