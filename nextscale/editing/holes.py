"""Fills holes from their surroundings, so that what an edit starts from is not what it replaces."""

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_holes(images: Tensor, known: Tensor) -> Tensor:
    """Images whose unknown pixels are a smooth continuation of the known ones.

    Each takes its value from the finest halving of the image in which its place is known
    (pull-push, Gortler et al. 1996, The Lumigraph); where nothing is known at all, grey.

    Args:
        images: (B, channels, H, W) in [-1, 1]; what stands in the holes does not matter.
        known: bool (B, 1, H, W).
    """
    if bool(known.all()):
        return images
    images = images.masked_fill(~known, 0)
    if images.shape[2:] == (1, 1):
        return images
    share = F.avg_pool2d(known.float(), 2, ceil_mode=True)
    halved = F.avg_pool2d(images, 2, ceil_mode=True) / share.clamp(min=1e-6)
    coarse = fill_holes(halved, share > 0)
    pushed = F.interpolate(coarse, images.shape[2:], mode="bilinear")
    return torch.where(known, images, pushed)
