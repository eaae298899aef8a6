"""The pyramid: a feature map to K token maps of growing size and back (VAR Alg. 1, 2).

`Pyramid.accumulate` is the one place where a scale joins the accumulated map; encoding,
decoding, teacher forcing, sampling and editing all call it. Vectors and maps are float32 whatever
the weights are stored in: half precision would tie distances and round away the finest residuals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.architecture import TokenizerConfig
from nextscale.scales import Scale, Scales, position
from nextscale.tokenizer.code import build_code

LEAST_GAIN = 0.25  # at first, of a fixed code at the finest scale


@dataclass
class Quantized:
    """A training pass through the quantizer.

    Attributes:
        output: (B, C, H, W), accumulated codes with the straight-through gradient to the features.
        codebook_loss: mse(accumulated, stopgrad(features)), averaged over scales; a scalar.
        commitment_loss: mse(stopgrad(accumulated), features), averaged over scales; a scalar.
        tokens: K maps int64 (B, h, w).
        residuals: K maps (B, C, h, w), what each scale had to code; no gradient.
    """

    output: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor
    tokens: list[Tensor]
    residuals: list[Tensor]


class Phi(nn.Module):
    """φ(x) = (1 - ratio) x + ratio conv3x3(x), mends what enlarging a token map loses."""

    def __init__(self, latent: int, ratio: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(latent, latent, 3, padding=1)
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        assert conv.bias is not None
        mended = F.conv2d(x, conv.weight.float(), conv.bias.float(), padding=1)
        return x * (1 - self.ratio) + mended * self.ratio  # (B, C, H, W)


class Pyramid(nn.Module):
    """One code for all scales; what a scale codes is subtracted before the next one looks.

    `encode` takes other scales than the configured ones, and the other methods other numbers of
    them, so that one tokenizer serves several pyramids up to the size of its feature map. Scales
    may be equal (RQ-VAE, arXiv 2203.01941).
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.scales = config.scales
        self.latent = config.latent
        self.code = build_code(config, self)
        self.phis = nn.ModuleList(
            Phi(config.latent, config.phi_ratio) for _ in range(config.phi_modules)
        )
        if not self.code.learned:  # what is left shrinks from scale to scale, fixed vectors do not
            self.gains = nn.Parameter(torch.linspace(1, LEAST_GAIN, len(config.scales)))  # (K,)

    @property
    def phi_of_scale(self) -> tuple[int, ...]:
        """Which φ each of the configured scales takes."""
        return choose_phis(len(self.phis), len(self.scales))

    def gain(self, k: int, count: int) -> Tensor | None:
        """Factor of a fixed code's vectors at scale k of `count`; None where they are learned."""
        if self.code.learned:
            return None
        return self.gains[round(position(k, count) * (len(self.gains) - 1))].float()

    def lookup(self, tokens: Tensor) -> Tensor:
        """Code vectors float32 (B, C, h, w) of a token map (B, h, w)."""
        return self.code.lookup(tokens)

    def empty(self, batch: int) -> Tensor:
        """The accumulated map before any scale: float32 zeros (B, C, H, W) beside the weights."""
        shape = (batch, self.latent, *self.scales[-1])
        weight = next(self.phis.parameters())
        return weight.new_zeros(shape, dtype=torch.float32)

    def accumulate(
        self, accumulated: Tensor, vectors: Tensor, k: int, count: int | None = None
    ) -> Tensor:
        """Adds scale k to the accumulated map: φ of its vectors, enlarged bicubically.

        Args:
            accumulated: (B, C, H, W), the sum over all coarser scales.
            vectors: (B, C, h, w), codes looked up at scale k.
            count: number of scales; that of the configured ones unless given.
        """
        count = count or len(self.scales)
        gain = self.gain(k, count)
        if gain is not None:
            vectors = vectors * gain
        finest = accumulated.shape[2:]
        if vectors.shape[2:] != finest:
            vectors = F.interpolate(vectors, finest, mode="bicubic", align_corners=False)
        return accumulated + self.phis[choose_phis(len(self.phis), count)[k]](vectors)

    def shrink(self, full: Tensor, scale: Scale) -> Tensor:
        """A map (B, C, H, W) averaged over areas to (B, C, h, w)."""
        if tuple(full.shape[2:]) == scale:
            return full
        return F.interpolate(full, scale, mode="area")

    def quantize(self, residual: Tensor, k: int, count: int | None = None) -> Tensor:
        """Tokens int64 (B, h, w) nearest to what scale k has to code, (B, C, h, w)."""
        gain = self.gain(k, count or len(self.scales))
        return self.code.quantize(residual if gain is None else residual / gain)

    def encode(self, features: Tensor, scales: Scales | None = None) -> list[Tensor]:
        """K token maps int64 (B, h, w) of features (B, C, H, W)."""
        return self.encode_disturbed(features, lambda tokens: tokens, scales)[0]

    def encode_disturbed(
        self,
        features: Tensor,
        disturb: Callable[[Tensor], Tensor],
        scales: Scales | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Token maps that mend what is done to the coarser ones (Infinity, 2412.04431 Sec. 3.3).

        Args:
            features: (B, C, H, W).
            disturb: token maps (B, h, w) to what stands in their place.
            scales: the pyramid; the configured one unless given.

        Returns:
            K maps int64 (B, h, w) of the nearest codes, given what stands before them; and the K
            maps that stand there.
        """
        scales = scales or self.scales
        count = len(scales)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            tokens, placed = [], []
            accumulated, residual = torch.zeros_like(features), features
            for k, scale in enumerate(scales):
                tokens.append(self.quantize(self.shrink(residual, scale), k, count))
                placed.append(disturb(tokens[k]))
                accumulated = self.accumulate(accumulated, self.lookup(placed[k]), k, count)
                residual = features - accumulated
        return tokens, placed

    def accumulated_maps(self, tokens: list[Tensor], count: int | None = None) -> list[Tensor]:
        """The accumulated map (B, C, H, W) after each of the first k scales given, k <= K.

        Args:
            count: K; that of the configured scales unless given.
        """
        maps: list[Tensor] = []
        for k, token_map in enumerate(tokens):
            before = maps[-1] if maps else self.empty(token_map.shape[0])
            maps.append(self.accumulate(before, self.lookup(token_map), k, count))
        return maps

    def teacher_inputs(self, tokens: list[Tensor]) -> Tensor:
        """What the transformer reads in training: (B, L - l of scale 1, C).

        Scale k > 1 reads the accumulated map after k-1 scales, shrunk to its own size.

        Args:
            tokens: K maps int64 (B, h, w), of any pyramid.
        """
        batch = tokens[0].shape[0]
        maps = self.accumulated_maps(tokens[:-1], len(tokens))
        inputs = [
            self.shrink(accumulated, tuple(finer.shape[1:])).flatten(2).transpose(1, 2)  # (B, l, C)
            for accumulated, finer in zip(maps, tokens[1:], strict=True)
        ]
        return torch.cat(inputs, 1) if inputs else self.empty(batch).flatten(2)[:, :, :0].mT

    def forward(self, features: Tensor) -> Quantized:
        """Quantizes features (B, C, H, W) for training, in float32; see `Quantized`."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            target = features.detach()
            residual, accumulated = target, torch.zeros_like(target)
            codebook_loss = commitment_loss = target.new_zeros(())
            tokens, residuals = [], []
            for k, scale in enumerate(self.scales):
                residuals.append(self.shrink(residual, scale))
                tokens.append(self.quantize(residuals[k], k))
                accumulated = self.accumulate(accumulated, self.lookup(tokens[k]), k)
                residual = target - accumulated.detach()
                codebook_loss = codebook_loss + F.mse_loss(accumulated, target)
                commitment_loss = commitment_loss + F.mse_loss(accumulated.detach(), features)
            output = features + (accumulated.detach() - target)  # straight-through
        count = len(self.scales)
        return Quantized(output, codebook_loss / count, commitment_loss / count, tokens, residuals)


@cache
def choose_phis(modules: int, scales: int) -> tuple[int, ...]:
    """Which φ each scale takes: the one whose tick is nearest to the scale's position.

    float64 on purpose: the released schedule has near-ties that other arithmetic decides otherwise.
    """
    edge = 1 / (3 * modules) if modules == 4 else 1 / (2 * modules)  # 4 is the released count
    ticks = np.linspace(edge, 1 - edge, modules)
    return tuple(int(np.argmin(np.abs(ticks - position(k, scales)))) for k in range(scales))
