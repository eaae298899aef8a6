"""The multi-scale residual quantizer: a feature map to K token maps and back (VAR Alg. 1, 2).

`Quantizer.accumulate` is the one place where a scale joins the accumulated map; encoding,
decoding, teacher forcing, sampling and editing all call it. Vectors and maps are float32 whatever
the weights are stored in: half precision would tie distances and round away the finest residuals.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.model import TokenizerConfig
from nextscale.scales import Scale, position


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


class Quantizer(nn.Module):
    """One codebook for all scales; what a scale codes is subtracted before the next one looks."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.scales = config.scales
        self.z_norm = config.z_norm
        self.codebook = nn.Parameter(torch.empty(config.codes, config.latent))  # (V, C)
        nn.init.uniform_(self.codebook, -1 / config.codes, 1 / config.codes)
        self.phis = nn.ModuleList(
            Phi(config.latent, config.phi_ratio) for _ in range(config.phi_modules)
        )
        self.phi_of_scale = choose_phis(config.phi_modules, len(config.scales))

    def nearest(self, vectors: Tensor) -> Tensor:
        """Codes int64 (B, h, w) nearest to vectors (B, C, h, w), by distance or cosine (z-norm)."""
        flat = vectors.float().permute(0, 2, 3, 1).reshape(-1, vectors.shape[1])  # (Bhw, C)
        codebook = self.codebook.detach().float()  # (V, C)
        if self.z_norm:
            codes = (F.normalize(flat, dim=-1) @ F.normalize(codebook, dim=-1).T).argmax(1)
        else:
            norms = flat.square().sum(1, keepdim=True) + codebook.square().sum(1)  # (Bhw, V)
            codes = torch.addmm(norms, flat, codebook.T, alpha=-2).argmin(1)
        return codes.view(vectors.shape[0], *vectors.shape[2:])

    def lookup(self, tokens: Tensor) -> Tensor:
        """Code vectors float32 (B, C, h, w) of a token map (B, h, w)."""
        return F.embedding(tokens, self.codebook).float().permute(0, 3, 1, 2)

    def empty(self, batch: int) -> Tensor:
        """The accumulated map before any scale: float32 zeros (B, C, H, W) beside the codebook."""
        shape = (batch, self.codebook.shape[1], *self.scales[-1])
        return self.codebook.new_zeros(shape, dtype=torch.float32)

    def accumulate(self, accumulated: Tensor, vectors: Tensor, k: int) -> Tensor:
        """Adds scale k to the accumulated map: φ of its vectors, enlarged bicubically.

        Args:
            accumulated: (B, C, H, W), the sum over all coarser scales.
            vectors: (B, C, h, w), codes looked up at scale k.
        """
        finest = self.scales[-1]
        if tuple(vectors.shape[2:]) != finest:
            vectors = F.interpolate(vectors, finest, mode="bicubic", align_corners=False)
        return accumulated + self.phis[self.phi_of_scale[k]](vectors)

    def shrink(self, full: Tensor, scale: Scale) -> Tensor:
        """A map (B, C, H, W) averaged over areas to (B, C, h, w)."""
        if tuple(full.shape[2:]) == scale:
            return full
        return F.interpolate(full, scale, mode="area")

    def encode(self, features: Tensor) -> list[Tensor]:
        """K token maps int64 (B, h, w) of features (B, C, H, W)."""
        return self.encode_disturbed(features, lambda tokens: tokens)[0]

    def encode_disturbed(
        self, features: Tensor, disturb: Callable[[Tensor], Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Token maps that mend what is done to the coarser ones (Infinity, 2412.04431 Sec. 3.3).

        Args:
            features: (B, C, H, W).
            disturb: token maps (B, h, w) to what stands in their place.

        Returns:
            K maps int64 (B, h, w) of the nearest codes, given what stands before them; and the K
            maps that stand there.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            tokens, placed = [], []
            accumulated, residual = torch.zeros_like(features), features
            for k, scale in enumerate(self.scales):
                tokens.append(self.nearest(self.shrink(residual, scale)))
                placed.append(disturb(tokens[k]))
                accumulated = self.accumulate(accumulated, self.lookup(placed[k]), k)
                residual = features - accumulated
        return tokens, placed

    def accumulated_maps(self, tokens: list[Tensor]) -> list[Tensor]:
        """The accumulated map (B, C, H, W) after each of the first k scales given, k <= K."""
        maps: list[Tensor] = []
        for k, token_map in enumerate(tokens):
            before = maps[-1] if maps else self.empty(token_map.shape[0])
            maps.append(self.accumulate(before, self.lookup(token_map), k))
        return maps

    def teacher_inputs(self, tokens: list[Tensor]) -> Tensor:
        """What the transformer reads in training: (B, L - l of scale 1, C).

        Scale k > 1 reads the accumulated map after k-1 scales, shrunk to its own size.
        """
        batch, channels = tokens[0].shape[0], self.codebook.shape[1]
        maps = self.accumulated_maps(tokens[:-1])
        inputs = [
            self.shrink(accumulated, scale).flatten(2).transpose(1, 2)  # (B, l, C)
            for accumulated, scale in zip(maps, self.scales[1:], strict=True)
        ]
        none = self.codebook.new_zeros(batch, 0, channels, dtype=torch.float32)
        return torch.cat(inputs, 1) if inputs else none

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
                tokens.append(self.nearest(residuals[k]))
                accumulated = self.accumulate(accumulated, self.lookup(tokens[k]), k)
                residual = target - accumulated.detach()
                codebook_loss = codebook_loss + F.mse_loss(accumulated, target)
                commitment_loss = commitment_loss + F.mse_loss(accumulated.detach(), features)
            output = features + (accumulated.detach() - target)  # straight-through
        count = len(self.scales)
        return Quantized(output, codebook_loss / count, commitment_loss / count, tokens, residuals)


def choose_phis(modules: int, scales: int) -> tuple[int, ...]:
    """Which φ each scale takes: the one whose tick is nearest to the scale's position.

    float64 on purpose: the released schedule has near-ties that other arithmetic decides otherwise.
    """
    edge = 1 / (3 * modules) if modules == 4 else 1 / (2 * modules)  # 4 is the released count
    ticks = np.linspace(edge, 1 - edge, modules)
    return tuple(int(np.argmin(np.abs(ticks - position(k, scales)))) for k in range(scales))
