"""Layers of transformer blocks: norms, MLPs, modulation, stochastic depth."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.architecture import TransformerConfig

EPSILON = 1e-6  # of every norm
SWIGLU_STEP = 256  # hidden widths of a SwiGLU are multiples of it, as in HART


def gelu(x: Tensor) -> Tensor:
    """GELU by tanh; compiled by the equal x sigmoid(2u), as an exponential costs half a tanh."""
    if not torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    wide = x.float()
    twice = math.sqrt(8 / math.pi) * (wide + 0.044715 * wide**3)
    return (wide * torch.sigmoid(twice)).to(x.dtype)


class MLP(nn.Module):
    """Linear, GELU (tanh), linear."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        hidden = round(config.width * config.mlp_ratio)
        self.expand = nn.Linear(config.width, hidden)
        self.project = nn.Linear(hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(gelu(self.expand(x)))  # (B, l, D)


class SwiGLU(nn.Module):
    """Linear maps of a gated SiLU (arXiv 2002.05202), two thirds as wide as an MLP, no biases."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        hidden = int(config.width * config.mlp_ratio * 2 / 3)
        hidden = math.ceil(hidden / SWIGLU_STEP) * SWIGLU_STEP
        self.gate = nn.Linear(config.width, hidden, bias=False)
        self.expand = nn.Linear(config.width, hidden, bias=False)
        self.project = nn.Linear(hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(F.silu(self.gate(x)) * self.expand(x))  # (B, l, D)


class RMSNorm(nn.Module):
    """x over its root mean square in float32, times a weight (arXiv 1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], eps=EPSILON).to(x.dtype) * self.weight


def build_norm(config: TransformerConfig, affine: bool) -> nn.Module:
    """The norm of a configuration; a layer norm has weights only where no AdaLN modulates it."""
    if config.norm == "rms":
        return RMSNorm(config.width)
    return nn.LayerNorm(config.width, eps=EPSILON, elementwise_affine=affine)


def build_mlp(config: TransformerConfig) -> MLP | SwiGLU:
    """The MLP of a configuration."""
    return SwiGLU(config) if config.mlp == "swiglu" else MLP(config)


def modulate(normed: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """A norm's output scaled by 1 + scale and shifted: AdaLN (DiT Sec. 3.2)."""
    return normed * (1 + scale) + shift


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Stochastic depth: zeroes a sample's branch at this rate, enlarges others (1603.09382)."""
    if rate == 0:
        return x
    keep = x.new_empty(x.shape[0], 1, 1).bernoulli_(1 - rate)
    return x * (keep / (1 - rate))
