"""How often codes are used: counts, share of the codebook in use, perplexity, entropy."""

import torch
from torch import Tensor


class CodeUse:
    """Counts how often each scale uses each code.

    Args:
        scales: K.
        codes: V.
        device: of the counts, int64 (K, V).
    """

    def __init__(self, scales: int, codes: int, device: torch.device) -> None:
        self.counts = torch.zeros(scales, codes, dtype=torch.long, device=device)  # (K, V)

    def add(self, tokens: list[Tensor]) -> Tensor:
        """Adds the codes of K token maps (B, h, w); returns the counts (K, V) of these alone."""
        counts = count_codes(tokens, self.counts.shape[1])
        self.counts += counts
        return counts


def count_codes(tokens: list[Tensor], codes: int) -> Tensor:
    """Counts int64 (n, V) of the codes in each of n integer tensors of any shape.

    `bincount` would do, but on a GPU it waits for the largest code before it returns.
    """
    places = torch.cat([part.flatten() + i * codes for i, part in enumerate(tokens)])
    counts = places.new_zeros(len(tokens) * codes)
    return counts.scatter_add_(0, places, torch.ones_like(places)).view(len(tokens), codes)


def used_share(counts: Tensor) -> list[float]:
    """Share of the codes that each scale uses, of counts (K, V)."""
    return (counts > 0).double().mean(1).tolist()


def perplexity(counts: Tensor) -> list[float]:
    """Exponential of each scale's code entropy, of counts (K, V)."""
    return entropy(counts).exp().tolist()


def entropy(counts: Tensor) -> Tensor:
    """Entropy in nats of counts (..., V)."""
    shares = counts.double() / counts.sum(-1, keepdim=True).clamp(min=1)
    return -torch.special.xlogy(shares, shares).sum(-1)
