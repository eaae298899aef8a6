"""Edits as constrained drawing: kept positions take the image's own code vectors (VAR Sec. 5.3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nextscale.editing.masks import Rule, keep_per_scale
from nextscale.errors import UsageError
from nextscale.generation.generate import generate
from nextscale.models.model import Model
from nextscale.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Edited:
    """Images after an edit, and what they are made of.

    Attributes:
        images: (B, channels, H, W) in [-1, 1].
        tokens: K maps int64 (B, h, w): the image's where kept, drawn elsewhere.
        drawn: K maps, as drawn, before the image's own were put back.
        kept: K masks bool (B, h, w).
    """

    images: Tensor
    tokens: list[Tensor]
    drawn: list[Tensor]
    kept: list[Tensor]


def edit(
    model: Model,
    tokenizer: Tokenizer,
    images: Tensor,
    keep: Tensor,
    labels: Tensor | None = None,
    *,
    rule: Rule = "released",
    recode: bool = False,
    **options: Any,
) -> Tensor:
    """Images (B, channels, H, W) in [-1, 1], redrawn where nothing is kept.

    Args:
        model, tokenizer: of one pipeline.
        images: (B, channels, H, W) in [-1, 1].
        keep: (h, w) or (B, h, w), of pixels or positions; 1 keeps. See `keep_per_scale`.
        labels: int64 (B,) of what is drawn; None draws without a class, as the released code.
        rule: as in `keep_per_scale`.
        recode: as in `redraw`.
        options: keywords of `generate`.

    Raises:
        UsageError: if shapes do not fit, or an option is out of its range.
    """
    masks = keep_per_scale(batched(keep, len(images)), model.scales, rule)
    return redraw(model, tokenizer, images, masks, labels, recode=recode, **options).images


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
    model: Model,
    tokenizer: Tokenizer,
    images: Tensor,
    masks: Sequence[Tensor],
    labels: Tensor | None = None,
    *,
    recode: bool = False,
    watch: Callable[[], None] | None = None,
    **options: Any,
) -> Edited:
    """Draws with the images' own code vectors put back where K masks bool (B, 1, h, w) say so.

    A next-token model knows of them only what stands before in its order.

    Args:
        recode: whether kept positions take the codes of what the maps drawn so far still miss of
            the image, as in encoding, instead of those of its own pyramid, to which what is drawn
            beside them is foreign. Known pixels then drift less.
        watch: called after every scale; what it raises ends the work.
    """
    quantizer = tokenizer.quantizer
    if labels is None:
        labels = model.condition.drop(
            torch.zeros(len(images), dtype=torch.long, device=images.device)
        )
    with torch.inference_mode():
        features = tokenizer.features(images)  # (B, C, H, W)
        own = quantizer.encode(features)
    maps = {0: quantizer.empty(len(images))}

    def constrain(k: int, vectors: Tensor) -> Tensor:
        if not recode:
            return torch.where(masks[k], quantizer.lookup(own[k]), vectors)
        own[k] = quantizer.quantize(quantizer.shrink(features - maps[k], model.scales[k]), k)
        placed = torch.where(masks[k], quantizer.lookup(own[k]), vectors)
        maps[k + 1] = quantizer.accumulate(maps[k], placed, k)
        return placed

    states = []
    for state in generate(model, tokenizer, labels, constrain=constrain, **options):
        states.append(state)
        if watch is not None:
            watch()
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
