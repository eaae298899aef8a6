"""Convolutional encoder and decoder of the tokenizer: the VQGAN/LDM network (arXiv 2012.09841).

Level 0 is the full resolution; every further level halves it. Layers keep default initialisation.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.architecture import TokenizerConfig

EPSILON = 1e-6  # of every group norm


class ResidualBlock(nn.Module):
    """(norm, SiLU, 3x3 convolution) twice; a 1x1 shortcut where the width changes."""

    def __init__(self, width_in: int, width_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in, EPSILON)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width_out, EPSILON)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        same = width_in == width_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # (B, width_out, h, w)
        h = self.conv2(F.silu(self.norm2(h)))  # (B, width_out, h, w)
        return self.shortcut(x) + h


class SpatialAttention(nn.Module):
    """Single-head self-attention over the positions of a feature map."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, EPSILON)
        self.query_key_value = nn.Conv2d(width, 3 * width, 1)
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, h, w = x.shape
        mixed = self.query_key_value(self.norm(x)).flatten(2).transpose(1, 2)  # (B, hw, 3 width)
        q, k, v = mixed.unsqueeze(1).chunk(3, dim=-1)  # 3 x (B, 1, hw, width)
        out = F.scaled_dot_product_attention(q, k, v)  # (B, 1, hw, width)
        out = out.squeeze(1).transpose(1, 2).reshape(batch, width, h, w)
        return x + self.project(out)


class Downsample(nn.Module):
    """Halves a map: 3x3 convolution of stride 2, padded right and bottom only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # (B, width, h/2, w/2)


class Upsample(nn.Module):
    """Doubles a map: nearest neighbour, then a 3x3 convolution.

    The enlarged map is never made. Its pixels of one parity of row and column see 2x2 numbers of
    the small map, under taps that are sums of the 3x3: four small convolutions, 4/9 of the
    arithmetic.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, h, w = x.shape
        parts = [
            [F.conv2d(x, taps, self.conv.bias, padding=1) for taps in add_taps(rows, 3)]
            for rows in add_taps(self.conv.weight, 2)
        ]  # of even and odd rows and columns, 2 x 2 x (B, width, h + 1, w + 1)
        by_channel = x.is_contiguous(memory_format=torch.channels_last)
        out = torch.empty(
            (batch, width, 2 * h, 2 * w),
            dtype=parts[0][0].dtype,
            device=x.device,
            memory_format=torch.channels_last if by_channel else torch.contiguous_format,
        )
        for a in range(2):
            for b in range(2):
                out[:, :, a::2, b::2] = parts[a][b][:, :, a : a + h, b : b + w]
        return out  # (B, width, 2h, 2w)


def add_taps(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Adds those of three taps along an axis that see the same number of a doubled map.

    Returns:
        two taps for even places, which see their left neighbour, and two for odd ones.
    """
    first, middle, last = weight.unbind(axis)
    return torch.stack([first, middle + last], axis), torch.stack([first + middle, last], axis)


class Level(nn.Module):
    """Residual blocks of one resolution, each with attention behind it at the lowest one."""

    def __init__(self, width_in: int, width_out: int, blocks: int, attention: bool, groups: int):
        super().__init__()
        widths = [width_in] + [width_out] * blocks
        self.blocks = nn.ModuleList(ResidualBlock(a, b, groups) for a, b in pairwise(widths))
        self.attentions = nn.ModuleList(
            SpatialAttention(width_out, groups) for _ in range(blocks if attention else 0)
        )

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x)  # (B, width_out, h, w)
            if len(self.attentions):
                x = self.attentions[i](x)
        return x


class Middle(nn.Module):
    """Block, attention, block between encoder or decoder levels and the latent side."""

    def __init__(self, width: int, attention: bool, groups: int) -> None:
        super().__init__()
        self.block1 = ResidualBlock(width, width, groups)
        self.attention = SpatialAttention(width, groups) if attention else nn.Identity()
        self.block2 = ResidualBlock(width, width, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(self.attention(self.block1(x)))  # (B, width, h, w)


class Encoder(nn.Module):
    """Images (B, channels, H, W) in [-1, 1] to a feature map (B, C, h, w)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = [config.width * m for m in config.multipliers]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config.image_channels, config.width, 3, padding=1)
        self.levels = nn.ModuleList(
            Level(a, b, config.blocks, config.attention and i == last, config.groups)
            for i, (a, b) in enumerate(zip([config.width, *widths], widths, strict=False))
        )
        self.downsamples = nn.ModuleList(Downsample(width) for width in widths[:-1])
        self.middle = Middle(widths[-1], config.attention, config.groups)
        self.norm_out = nn.GroupNorm(config.groups, widths[-1], EPSILON)
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)
        for i, level in enumerate(self.levels):
            x = level(x)  # (B, width_i, H / 2^i, W / 2^i)
            if i < len(self.downsamples):
                x = self.downsamples[i](x)
        return self.conv_out(F.silu(self.norm_out(self.middle(x))))


class Decoder(nn.Module):
    """Feature map (B, C, h, w) to images (B, channels, H, W), not clamped."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = [config.width * m for m in config.multipliers]
        last = len(widths) - 1
        blocks = config.blocks + 1
        self.conv_in = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        self.middle = Middle(widths[-1], config.attention, config.groups)
        self.levels = nn.ModuleList(
            Level(a, b, blocks, config.attention and i == last, config.groups)
            for i, (a, b) in enumerate(zip(widths[1:] + widths[-1:], widths, strict=True))
        )
        self.upsamples = nn.ModuleDict({str(i): Upsample(w) for i, w in enumerate(widths) if i > 0})
        self.norm_out = nn.GroupNorm(config.groups, widths[0], EPSILON)
        self.conv_out = nn.Conv2d(widths[0], config.image_channels, 3, padding=1)

    @property
    def last_weight(self) -> Tensor:
        """Weight of the last layer, at which the adaptive adversarial weight compares gradients."""
        return self.conv_out.weight

    def forward(self, features: Tensor) -> Tensor:
        x = self.middle(self.conv_in(features))
        for i in reversed(range(len(self.levels))):
            x = self.levels[i](x)  # (B, width_i, H / 2^i, W / 2^i)
            if i > 0:
                x = self.upsamples[str(i)](x)
        return self.conv_out(F.silu(self.norm_out(x)))
