"""Codes: what a token stands for. A learned codebook (VQ) or a fixed grid of levels (FSQ).

A code maps vectors to tokens and tokens to vectors; `pyramid` decides which vectors. Distances and
vectors are float32 whatever the weights are stored in: half precision would tie distances.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.architecture import TokenizerConfig
from nextscale.config.registry import CODES
from nextscale.machine.devices import constant


class Code(ABC):
    """What every code offers; C is the length of its vectors.

    Its weights, if it has any, belong to the module that holds it, the pyramid: there their names
    are those of 0.1, which the hashes of tokenizers cover.

    Args:
        config: of the tokenizer.
        holder: where it registers its weights.

    Attributes:
        alphabet: sizes of the choices that make up a token: (V,) where there is one.
        learned: whether the vectors are weights, which fit any scale of the residual.
    """

    alphabet: tuple[int, ...]
    learned: bool

    def __init__(self, config: TokenizerConfig, holder: nn.Module) -> None:
        del config
        self.holder = holder

    @property
    def size(self) -> int:
        """V, the number of tokens."""
        return math.prod(self.alphabet)

    @abstractmethod
    def quantize(self, vectors: Tensor) -> Tensor:
        """Tokens int64 (B, h, w) of vectors (B, C, h, w)."""

    @abstractmethod
    def lookup(self, tokens: Tensor) -> Tensor:
        """Vectors float32 (B, C, h, w) of tokens (B, h, w)."""

    @abstractmethod
    def vectors(self) -> Tensor:
        """The vectors of all tokens, float32 (V, C)."""

    def average(self, shares: Sequence[Tensor]) -> Tensor:
        """Mean vectors (B, l, C) under probabilities of tokens.

        Args:
            shares: (B, l, V), or one (B, l, size) for each entry of the alphabet.
        """
        (share,) = shares
        return share @ self.vectors()

    def replace(self, tokens: Tensor, vectors: Tensor) -> nn.Parameter | None:
        """Gives tokens (n,) other vectors (n, C); returns the weight that changed.

        Codes without learned vectors change nothing and return None.
        """
        del tokens, vectors
        return None


class VQ(Code):
    """Vector quantization: the nearest of V learned vectors (VQ-VAE, arXiv 1711.00937)."""

    learned = True

    def __init__(self, config: TokenizerConfig, holder: nn.Module) -> None:
        super().__init__(config, holder)
        self.alphabet = (config.codes,)
        self.z_norm = config.z_norm
        holder.codebook = nn.Parameter(torch.empty(config.codes, config.latent))  # (V, C)
        nn.init.uniform_(self.codebook, -1 / config.codes, 1 / config.codes)

    @property
    def codebook(self) -> nn.Parameter:
        """The learned vectors (V, C)."""
        return cast(nn.Parameter, self.holder.codebook)

    def quantize(self, vectors: Tensor) -> Tensor:
        """The nearest codes, by distance or by cosine (z-norm)."""
        flat = vectors.float().permute(0, 2, 3, 1).reshape(-1, vectors.shape[1])  # (Bhw, C)
        codebook = self.codebook.detach().float()  # (V, C)
        if self.z_norm:
            codes = (F.normalize(flat, dim=-1) @ F.normalize(codebook, dim=-1).T).argmax(1)
        else:
            norms = flat.square().sum(1, keepdim=True) + codebook.square().sum(1)  # (Bhw, V)
            codes = torch.addmm(norms, flat, codebook.T, alpha=-2).argmin(1)
        return codes.view(vectors.shape[0], *vectors.shape[2:])

    def lookup(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.codebook).float().permute(0, 3, 1, 2)

    def vectors(self) -> Tensor:
        return self.codebook.float()

    @torch.no_grad()
    def replace(self, tokens: Tensor, vectors: Tensor) -> nn.Parameter | None:
        self.codebook[tokens] = vectors
        return self.codebook


class FSQ(Code):
    """Finite scalar quantization: every channel takes one of its levels (arXiv 2309.15505).

    The levels of a channel divide [-1, 1] evenly. The paper bounds features by tanh; here a vector
    is clamped, so that its code is the nearest one, as residual quantization requires. A token is
    the mixed-radix number of the levels, the first channel the most significant.
    """

    learned = False

    def __init__(self, config: TokenizerConfig, holder: nn.Module) -> None:
        super().__init__(config, holder)
        self.alphabet = config.levels
        self.radix = [math.prod(config.levels[i + 1 :]) for i in range(len(config.levels))]

    def steps(self, device: torch.device) -> Tensor:
        """Levels less one of each channel, float32 (C,)."""
        return constant([size - 1 for size in self.alphabet], device, torch.float32)

    def quantize(self, vectors: Tensor) -> Tensor:
        """The nearest level of each channel."""
        shares = (vectors.float().clamp(-1, 1).movedim(1, -1) + 1) / 2  # (B, h, w, C)
        levels = (shares * self.steps(vectors.device)).round().long()
        return (levels * constant(self.radix, vectors.device)).sum(-1)

    def levels(self, tokens: Tensor) -> Tensor:
        """The level of each channel, int64 (..., C), of tokens (...)."""
        radix = constant(self.radix, tokens.device)
        above = tokens.unsqueeze(-1).div(radix, rounding_mode="floor")
        return above.remainder(constant(self.alphabet, tokens.device))

    def lookup(self, tokens: Tensor) -> Tensor:
        return (2 * self.levels(tokens) / self.steps(tokens.device) - 1).movedim(-1, 1)

    def vectors(self) -> Tensor:
        return 2 * self.levels(torch.arange(self.size)) / self.steps(torch.device("cpu")) - 1

    def average(self, shares: Sequence[Tensor]) -> Tensor:
        if len(shares) == 1 < len(self.alphabet):
            return super().average(shares)
        places = [torch.linspace(-1, 1, size, device=shares[0].device) for size in self.alphabet]
        return torch.stack([s @ p for s, p in zip(shares, places, strict=True)], -1)  # (B, l, C)


def build_code(config: TokenizerConfig, holder: nn.Module) -> Code:
    """The code that a tokenizer's configuration names; see `Code`."""
    return CODES.load(config.code)(config, holder)
