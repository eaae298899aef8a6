"""Canvases larger than the model's images: windows over them, drawn from what is known outwards."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nextscale.editing.candidates import Attempt, attempt
from nextscale.editing.holes import fill_holes
from nextscale.editing.masks import Rule, keep_per_scale
from nextscale.editing.seams import paste
from nextscale.errors import UsageError
from nextscale.models.model import Model
from nextscale.scales import Scale
from nextscale.tokenizer.tokenizer import Tokenizer

WINDOW_SEEDS = 0x9E3779B97F4A7C15  # golden ratio of 2^64: the seeds of windows lie far apart
LARGEST_SIDE = 16  # of a canvas, in the model's images


class Sides(NamedTuple):
    """Pixels that a canvas is larger than an image."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    @classmethod
    def of(cls, sides: Sequence[int]) -> "Sides":
        """Four numbers by their names. Raises UsageError if they are not four."""
        if len(sides) != len(cls._fields):
            raise UsageError(f"{len(sides)} sides are given; {', '.join(cls._fields)} are needed")
        return cls(*sides)


def outpaint(
    model: Model,
    tokenizer: Tokenizer,
    images: Tensor,
    sides: Sides,
    labels: Tensor,
    *,
    seeds: Sequence[int],
    overlap: float = 0.5,
    rule: Rule = "released",
    feather: int = 0,
    **options: Any,
) -> Attempt:
    """Continues images beyond their sides; their own pixels stay as they are but for the seam.

    Windows of the model's size lie over the canvas in steps that leave an overlap, those nearest to
    the image first; each draws what of it is unknown yet. One window is drawn where the canvas has
    the model's size.

    Args:
        images: (B, channels, h, w) in [-1, 1], of any size up to the model's.
        sides: of the canvas, which must be at least as large as the model's images.
        labels: int64 (B,).
        seeds: one an image.
        overlap: share of a window, above 0 and below 1, that its neighbour shares.
        rule: as in `keep_per_scale`.
        feather: width of the seam in pixels; see `paste`.
        options: keywords of `redraw`.

    Returns:
        images of the canvas's size, and the log-probability of all that was drawn.

    Raises:
        UsageError: if the sides or the overlap are out of their range.
    """
    window = tokenizer.config.image_size
    check(images, sides, window, overlap)
    height = sides.top + images.shape[2] + sides.bottom
    width = sides.left + images.shape[3] + sides.right
    canvas = images.new_zeros(*images.shape[:2], height, width)
    known = torch.zeros_like(canvas[:, :1], dtype=torch.bool)
    inside = (..., slice(sides.top, height - sides.bottom), slice(sides.left, width - sides.right))
    canvas[inside], known[inside] = images, True
    total = torch.zeros(len(images), device=images.device)
    places = windows((height, width), (sides.top, sides.left), window, overlap)
    for number, (top, left) in enumerate(places):
        part = (..., slice(top, top + window[0]), slice(left, left + window[1]))
        if bool(known[part].all()):
            continue
        keep = known[part][:, 0].float()
        masks = keep_per_scale(keep, model.scales, rule)
        before = fill_holes(canvas[part], known[part])
        given = [(seed + number * WINDOW_SEEDS) % 2**63 for seed in seeds]
        drawn, found = attempt(model, tokenizer, before, masks, labels, seeds=given, **options)
        canvas[part] = paste(drawn, before, keep, feather)
        known[part] = True
        total += found
    return Attempt(canvas, total)


def windows(
    canvas: Scale, anchor: tuple[int, int], window: Scale, overlap: float
) -> list[tuple[int, int]]:
    """Top left corners of windows that cover a canvas, those nearest to the anchor first."""
    rows, columns = (
        corners(canvas[i], anchor[i], window[i], step_of(window[i], overlap)) for i in (0, 1)
    )
    places = [(row, column) for row in rows for column in columns]

    def distance(place: tuple[int, int]) -> int:
        return (place[0] - anchor[0]) ** 2 + (place[1] - anchor[1]) ** 2

    return sorted(places, key=distance)


def step_of(window: int, overlap: float) -> int:
    """Pixels from window to window; at least one is shared."""
    return min(max(1, round(window * (1 - overlap))), max(1, window - 1))


def corners(length: int, anchor: int, window: int, step: int) -> list[int]:
    """Where windows begin along a side: at the anchor and in steps from it, none over the edge."""
    last = length - window
    starts = {min(max(anchor + step * i, 0), last) for i in range(-length, length + 1)}
    return sorted(starts)


def check(images: Tensor, sides: Sides, window: Scale, overlap: float) -> None:
    """Raises UsageError at sides or an overlap out of their range."""
    if min(sides) < 0 or max(sides) == 0:
        raise UsageError(
            f"the sides are {' '.join(map(str, sides))} (left, top, right, bottom); none may be "
            "negative, and at least one must be larger than 0"
        )
    if not 0 < overlap < 1:
        raise UsageError(f"overlap is {overlap}; it must be above 0 and below 1")
    height = sides.top + images.shape[2] + sides.bottom
    width = sides.left + images.shape[3] + sides.right
    most = LARGEST_SIDE * window[0], LARGEST_SIDE * window[1]
    if height < window[0] or width < window[1] or height > most[0] or width > most[1]:
        raise UsageError(
            f"the canvas would have {width}x{height} pixels; it can have from "
            f"{window[1]}x{window[0]} to {most[1]}x{most[0]}"
        )
