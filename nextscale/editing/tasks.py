"""Edits as constrained drawing: kept positions take the image's own code vectors (VAR Sec. 5.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nextscale.editing.masks import Rule, keep_per_scale
from nextscale.errors import UsageError
from nextscale.models.var import VAR
from nextscale.sampling import generate
from nextscale.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Edited:
    """Images after an edit, and what they are made of.

    Attributes:
        images: (B, channels, H, W) in [-1, 1].
        tokens: K maps int64 (B, h, w): the image's own where kept, drawn elsewhere.
        drawn: K maps, as drawn, before the image's own were put back.
        kept: K masks bool (B, h, w).
    """

    images: Tensor
    tokens: list[Tensor]
    drawn: list[Tensor]
    kept: list[Tensor]


def edit(
    model: VAR,
    tokenizer: Tokenizer,
    images: Tensor,
    keep: Tensor,
    labels: Tensor | None = None,
    *,
    rule: Rule = "released",
    **options: Any,
) -> Tensor:
    """Images (B, channels, H, W) in [-1, 1], redrawn where nothing is kept.

    Args:
        model, tokenizer: of one pipeline.
        images: (B, channels, H, W) in [-1, 1].
        keep: (h, w) or (B, h, w), of pixels or positions; 1 keeps. See `keep_per_scale`.
        labels: int64 (B,) of what is drawn; None draws without a class, as the released code.
        rule: as in `keep_per_scale`.
        options: as `sampling.generate`.

    Raises:
        UsageError: if shapes do not fit, or an option is out of its range.
    """
    masks = keep_per_scale(batched(keep, len(images)), model.scales, rule)
    return redraw(model, tokenizer, images, masks, labels, **options).images


def vary(
    model: VAR,
    tokenizer: Tokenizer,
    images: Tensor,
    keep_scales: int,
    labels: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Images like the given ones: their first scales are kept, the finer ones drawn anew.

    Args:
        keep_scales: k; few keep the layout alone, all but one keep all but the texture.

    Raises:
        UsageError: if k is not from 0 to the number of scales.
    """
    count = len(model.scales)
    if not 0 <= keep_scales <= count:
        raise UsageError(f"keep_scales is {keep_scales}; it can be from 0 to {count}")
    masks = [
        torch.full((len(images), 1, *scale), k < keep_scales, device=images.device)
        for k, scale in enumerate(model.scales)
    ]
    return redraw(model, tokenizer, images, masks, labels, **options).images


@torch.inference_mode()
def interpolate(tokenizer: Tokenizer, first: Tensor, second: Tensor, steps: int) -> Tensor:
    """Images (steps, B, channels, H, W) from one to the other, between their accumulated maps.

    Args:
        first, second: (B, channels, H, W) in [-1, 1]; the ends are their reconstructions.

    Raises:
        UsageError: if there are fewer than two steps.
    """
    if steps < 2:
        raise UsageError(f"steps is {steps}; at least 2 are needed, the two images themselves")
    quantizer = tokenizer.quantizer
    ends = [quantizer.accumulated_maps(tokenizer.encode(images))[-1] for images in (first, second)]
    shares = torch.linspace(0, 1, steps).tolist()
    return torch.stack(
        [tokenizer.decode_accumulated(ends[0].lerp(ends[1], share)) for share in shares]
    )


def redraw(
    model: VAR,
    tokenizer: Tokenizer,
    images: Tensor,
    masks: Sequence[Tensor],
    labels: Tensor | None = None,
    **options: Any,
) -> Edited:
    """Draws with the images' own code vectors put back where K masks bool (B, 1, h, w) say so."""
    if not isinstance(model, VAR):
        raise UsageError("a next-token model draws in one order and cannot fill holes")
    if labels is None:
        labels = torch.full((len(images),), model.config.classes, device=images.device)
    with torch.inference_mode():
        own = tokenizer.encode(images)

    def constrain(k: int, vectors: Tensor) -> Tensor:
        return torch.where(masks[k], tokenizer.quantizer.lookup(own[k]), vectors)

    states = list(generate(model, tokenizer, labels, constrain=constrain, **options))
    drawn, kept = [state.tokens for state in states], [mask[:, 0] for mask in masks]
    tokens = [torch.where(*maps) for maps in zip(kept, own, drawn, strict=True)]
    return Edited(states[-1].image(), tokens, drawn, kept)


def batched(keep: Tensor, images: int) -> Tensor:
    """A mask (h, w) for all images, or one each, as (B, h, w)."""
    if keep.ndim == 2:
        keep = keep.expand(images, -1, -1)
    if keep.ndim != 3 or len(keep) != images:
        raise UsageError(
            f"the mask has the shape {tuple(keep.shape)}; (h, w) or ({images}, h, w) is needed"
        )
    return keep
