"""Which positions an edit keeps: from a mask of pixels to a mask of every scale.

Inside the library 1 keeps; what users give is the other way round, as in diffusers: white redraws.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.errors import UsageError
from nextscale.scales import Scale, Scales, describe

Rule = Literal["released", "strict"]
KEPT_WHOLE = 3  # positions: the released rule keeps scales of at most this number as they are


def keep_per_scale(keep: Tensor, scales: Scales, rule: Rule = "released") -> list[Tensor]:
    """What is kept of every scale, K masks bool (B, 1, h, w).

    A mask of pixels is first averaged over the area of every position of the finest scale, where a
    position is kept by the same rule as below.

    `released`, of the published code: the mask of the finest scale, resized bilinearly, is above
    one half; scales of at most three positions are kept whole. Coarse scales then know something of
    what was in the hole. `strict`: all of a position's area is kept, at every scale.

    Args:
        keep: (B, H, W), from 0 (redraw) to 1 (keep), of pixels or of the finest scale's positions.
        scales: the pyramid.
        rule: that turns areas into positions.

    Raises:
        UsageError: if the rule is unknown, or the mask is smaller than the finest scale.
    """
    if rule not in ("released", "strict"):
        raise UsageError(f"rule is {rule!r}; it can be released or strict")
    height, width = keep.shape[-2:]
    if height < scales[-1][0] or width < scales[-1][1]:
        raise UsageError(
            f"the mask has {height}x{width} positions; at least the {describe(scales[-1:])} of the "
            "finest scale are needed"
        )
    keep = keep.float()[:, None]  # (B, 1, H, W)
    if rule == "strict":
        return [averaged(keep, scale) == 1 for scale in scales]
    finest = keep if keep.shape[2:] == scales[-1] else (averaged(keep, scales[-1]) > 0.5).float()
    masks = []
    for h, w in scales:
        resized = F.interpolate(finest, (h, w), mode="bilinear", align_corners=False)
        masks.append(
            torch.full_like(resized, h * w <= KEPT_WHOLE, dtype=torch.bool) | (resized > 0.5)
        )
    return masks


def first_scales(keep_scales: int, scales: Scales, device: torch.device) -> list[Tensor]:
    """Masks that keep the first scales whole and nothing of the finer ones, bool (1, 1, h, w).

    Edits by them are variations: few scales keep the layout alone, all but one all but the texture.

    Args:
        keep_scales: k.
        scales: the pyramid.
        device: of the masks.

    Raises:
        UsageError: if k is out of range.
    """
    count = len(scales)
    if not 0 <= keep_scales <= count:
        raise UsageError(f"keep_scales is {keep_scales}; it can be from 0 to {count}")
    return [
        torch.full((1, 1, *scale), k < keep_scales, device=device) for k, scale in enumerate(scales)
    ]


def averaged(keep: Tensor, scale: Scale) -> Tensor:
    """A mask (B, 1, H, W) averaged over the areas of a scale's positions, (B, 1, h, w)."""
    return F.interpolate(keep, scale, mode="area")
