"""Pastes known pixels back over an edit, with a seam that fades."""

import torch
import torch.nn.functional as F
from torch import Tensor


def paste(edited: Tensor, originals: Tensor, keep: Tensor, feather: int = 0) -> Tensor:
    """Edited images with the originals' pixels where they are kept.

    Kept pixels further than the seam from any hole are the originals' bit for bit; within it they
    fade linearly.

    Args:
        edited, originals: (B, channels, H, W).
        keep: (B, h, w), from 0 (redrawn) to 1 (kept), of pixels or of positions, whose areas then
            count as a whole.
        feather: width of the seam in pixels, on the kept side; 0 has none.
    """
    sides = (originals.shape[2], originals.shape[3])
    hole = (F.interpolate(keep.float()[:, None], sides, mode="nearest") < 1).float()  # (B, 1, H, W)
    share = 1 - hole  # of the original
    for step in range(feather):
        hole = F.max_pool2d(hole, 3, stride=1, padding=1)  # one pixel larger
        share = torch.minimum(share, 1 - hole * (feather - step) / (feather + 1))
    return torch.where(share == 1, originals, edited + share * (originals - edited))
