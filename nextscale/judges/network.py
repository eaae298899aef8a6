"""A small residual classifier (arXiv 1603.05027) that judges images where no Inception can.

Its penultimate features serve distances of distributions, its maps a perceptual loss, its
probabilities the class accuracy of samples and rejection sampling.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.architecture import ClassifierConfig


class ConvBlock(nn.Module):
    """(norm, ReLU, 3x3 convolution) twice around a shortcut; the first may halve the map."""

    def __init__(self, width_in: int, width_out: int, stride: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.stride, self.shortcut = stride, None
        if stride != 1 or width_in != width_out:
            self.shortcut = nn.Conv2d(width_in, width_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x))
        short = x
        if self.shortcut is not None:
            # The stride is taken before: oneDNN's gradient of a strided 1x1 convolution of few
            # channels, last in memory, writes out of bounds.
            short = self.shortcut(h[:, :, :: self.stride, :: self.stride])
        h = self.conv1(h)  # (B, width_out, h, w)
        return short + self.conv2(F.relu(self.norm2(h)))  # (B, width_out, h, w)


class Classifier(nn.Module):
    """Images (B, channels, H, W) in [-1, 1] to logits (B, classes)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**level for level in range(config.levels)]
        self.stem = nn.Conv2d(config.image_channels, config.width, 3, padding=1, bias=False)
        self.levels = nn.ModuleList(
            nn.Sequential(
                ConvBlock(before, width, 1 if level == 0 else 2, config.groups),
                *(ConvBlock(width, width, 1, config.groups) for _ in range(config.blocks - 1)),
            )
            for level, (before, width) in enumerate(pairwise([config.width, *widths]))
        )
        self.norm = nn.GroupNorm(config.groups, widths[-1])
        self.head = nn.Linear(widths[-1], config.classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The map behind every level, (B, width 2^i, H / 2^i, W / 2^i) each."""
        x, maps = self.stem(images), []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """What the last linear layer sees, (B, F)."""
        return F.relu(self.norm(self.maps(images)[-1])).mean((2, 3))
