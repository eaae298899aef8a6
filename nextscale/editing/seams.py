"""Pastes known pixels back over an edit, with a seam that fades."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.errors import UsageError


def paste(edited: Tensor, originals: Tensor, keep: Tensor, feather: int = 0) -> Tensor:
    """Edited images with the originals' pixels where they are kept.

    Kept pixels further than the seam from any hole are the originals' bit for bit; within it they
    fade linearly.

    Args:
        edited, originals: (B, channels, H, W).
        keep: (B, h, w), from 0 (redrawn) to 1 (kept), of pixels or of positions, whose areas then
            count as a whole; between, both are mixed.
        feather: width of the seam in pixels, on the kept side; 0 has none.

    Raises:
        UsageError: if the seam is below 0.
    """
    if feather < 0:
        raise UsageError(f"feather is {feather}; it must be at least 0")
    share = at_size(keep, originals)  # of the original
    hole = (share < 1).float()  # (B, 1, H, W)
    for step in range(feather):
        hole = F.max_pool2d(hole, 3, stride=1, padding=1)  # one pixel larger
        share = torch.minimum(share, 1 - hole * (feather - step) / (feather + 1))
    mixed = edited + share * (originals - edited)
    return torch.where(share == 1, originals, torch.where(share == 0, edited, mixed))


def at_size(keep: Tensor, images: Tensor) -> Tensor:
    """A mask (B, h, w) with every position spread over its area of images, (B, 1, H, W)."""
    return F.interpolate(keep.float()[:, None], images.shape[2:], mode="nearest")
