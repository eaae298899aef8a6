"""The multi-scale VQ tokenizer: encoder, pyramid, decoder (VAR Sec. 3.2)."""

import torch
from torch import Tensor, nn

from nextscale.config.architecture import TokenizerConfig
from nextscale.tokenizer.autoencoder import Decoder, Encoder
from nextscale.tokenizer.pyramid import Pyramid, Quantized

PIXELS = 2**16  # of the images that a CPU decodes at once


class Tokenizer(nn.Module):
    """Images float32 (B, channels, H, W) in [-1, 1] to K token maps int64 (B, h, w) and back."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.to_latent = nn.Conv2d(config.latent, config.latent, 3, padding=1)
        self.quantizer = Pyramid(config)
        self.from_latent = nn.Conv2d(config.latent, config.latent, 3, padding=1)
        self.decoder = Decoder(config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.from_latent.weight.device

    def features(self, images: Tensor) -> Tensor:
        """Continuous feature map (B, C, h, w) before quantization, in the weights' dtype.

        Raises:
            ValueError: if the images are not of the configured size and channels.
        """
        expected = (self.config.image_channels, *self.config.image_size)
        if tuple(images.shape[1:]) != expected:
            raise ValueError(f"images have shape {tuple(images.shape)}; (B, *{expected}) is needed")
        return self.to_latent(self.encoder(images.to(self.to_latent.weight.dtype)))

    def encode(self, images: Tensor) -> list[Tensor]:
        """K token maps int64 (B, h, w), coarse to fine."""
        return self.quantizer.encode(self.features(images))

    def decode(self, tokens: list[Tensor]) -> Tensor:
        """Images float32 (B, channels, H, W) clamped to [-1, 1]; the first k of K maps suffice."""
        return self.decode_accumulated(self.quantizer.accumulated_maps(tokens)[-1])

    def decode_accumulated(self, accumulated: Tensor) -> Tensor:
        """Images float32 clamped to [-1, 1] of an accumulated map (B, C, h, w).

        On a CPU large ones are decoded a few at a time: all at once they take more memory, and
        leave its caches.
        """
        accumulated = accumulated.to(self.from_latent.weight.dtype)
        accumulated = accumulated.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        images = [
            self.decoder(self.from_latent(part)).float().clamp(-1, 1)
            for part in accumulated.split(self.at_once(accumulated))
        ]
        return images[0] if len(images) == 1 else torch.cat(images)

    def at_once(self, accumulated: Tensor) -> int:
        """Number of images of a batch (B, C, h, w) that are decoded at once."""
        if accumulated.device.type != "cpu":
            return len(accumulated)
        pixels = accumulated[0, 0].numel() * self.config.downsampling**2
        return max(1, PIXELS // pixels)

    def forward(self, images: Tensor) -> tuple[Tensor, Quantized]:
        """Training pass: reconstruction (B, channels, H, W), not clamped; the quantizer's terms."""
        quantized = self.quantizer(self.features(images))
        return self.decoder(self.from_latent(quantized.output)), quantized
