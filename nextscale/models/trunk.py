"""The trunk: a stack of transformer blocks under one condition (VAR Sec. 3.2, DiT Sec. 3.2)."""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nextscale.config.architecture import TransformerConfig
from nextscale.models.attention import Attention, Cache, Piece, Stored
from nextscale.models.layers import build_mlp, build_norm, drop_path, modulate
from nextscale.scales import position

Modulation = tuple[Tensor, ...]


class AdaLNBlock(nn.Module):
    """Transformer block with norms scaled, shifted, gated by the condition (DiT Sec. 3.2)."""

    def __init__(self, config: TransformerConfig, drop_rate: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        if config.shared_adaln:
            self.offset = nn.Parameter(torch.zeros(6, config.width))
        else:
            self.modulation = nn.Linear(config.width, 6 * config.width)
        self.norm1, self.norm2 = build_norm(config, False), build_norm(config, False)
        self.attention = Attention(config)
        self.mlp = build_mlp(config)

    def modulations(self, source: Tensor) -> Modulation:
        """Gates, scales and shifts of this block, 6 x (B, 1, D).

        Args:
            source: as `Transformer.modulation_source` gives it.
        """
        if source.ndim == 3:  # shared AdaLN
            return (source + self.offset).unsqueeze(2).unbind(1)
        return self.modulation(source).unflatten(1, (6, 1, -1)).unbind(1)

    def forward(
        self,
        x: Tensor,
        modulations: Modulation | Tensor,
        pieces: Sequence[Piece],
        stored: Stored | None = None,
        rotation: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, l, D) of tokens x (B, l, D).

        Args:
            modulations: of this block, or their source; then they are computed here, where a
                sharded block (FSDP) has its weights at hand.
            pieces, stored, rotation: as in `Attention`.
        """
        if isinstance(modulations, Tensor):
            modulations = self.modulations(modulations)
        gate_a, gate_m, scale_a, scale_m, shift_a, shift_m = modulations  # 6 x (B, 1, D)
        a = modulate(self.norm1(x), scale_a, shift_a)
        a = self.attention(a, pieces, stored, rotation)  # (B, l, D)
        rate = self.drop_rate if self.training else 0.0
        x = x + drop_path(gate_a * a, rate)
        m = self.mlp(modulate(self.norm2(x), scale_m, shift_m))  # (B, l, D)
        return x + drop_path(gate_m * m, rate)


class PlainBlock(nn.Module):
    """Pre-norm transformer block that no condition modulates, for the ablation's first rows."""

    def __init__(self, config: TransformerConfig, drop_rate: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.norm1 = build_norm(config, True)
        self.attention = Attention(config)
        self.norm2 = build_norm(config, True)
        self.mlp = build_mlp(config)

    def modulations(self, source: Tensor) -> Modulation:
        """None of them."""
        del source
        return ()

    def forward(
        self,
        x: Tensor,
        modulations: Modulation | Tensor,
        pieces: Sequence[Piece],
        stored: Stored | None = None,
        rotation: Tensor | None = None,
    ) -> Tensor:
        """As `AdaLNBlock`, whose arguments it takes."""
        del modulations
        rate = self.drop_rate if self.training else 0.0
        a = self.attention(self.norm1(x), pieces, stored, rotation)  # (B, l, D)
        x = x + drop_path(a, rate)
        return x + drop_path(self.mlp(self.norm2(x)), rate)


class Transformer(nn.Module):
    """A stack of blocks under one condition."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = 0.0  # share of the blocks that keep no activations for the backward pass
        rates = [config.drop_path * position(i, config.depth) for i in range(config.depth)]
        kind = AdaLNBlock if config.adaln else PlainBlock
        self.blocks = nn.ModuleList(kind(config, rate) for rate in rates)
        if config.shared_adaln:
            self.shared_modulation = nn.Linear(config.width, 6 * config.width)

    def modulation_source(self, condition: Tensor) -> Tensor:
        """What every block makes its modulations of: (B, D), or (B, 6, D) with shared AdaLN."""
        activated = F.silu(condition)
        if self.config.shared_adaln:
            return self.shared_modulation(activated).unflatten(1, (6, -1))
        return activated

    def modulation_sources(self, condition: Tensor | None) -> list[Modulation | Tensor]:
        """What each block makes its modulations of, by itself, of the condition (B, D)."""
        if condition is None or not self.config.adaln:
            return [()] * self.config.depth
        return [self.modulation_source(condition)] * self.config.depth

    def modulations(self, condition: Tensor | None) -> list[Modulation]:
        """All the blocks need of the condition (B, D), to be computed once an image."""
        if condition is None or not self.config.adaln:
            return [()] * self.config.depth
        source = self.modulation_source(condition)
        return [block.modulations(source) for block in self.typed_blocks()]

    def typed_blocks(self) -> list[AdaLNBlock | PlainBlock]:
        """The blocks, statically typed."""
        return cast(list[AdaLNBlock | PlainBlock], list(self.blocks))

    def new_cache(self, batch: int, tokens: int, mask: Tensor | None = None) -> Cache:
        """Room for the keys and values of `tokens` tokens.

        Args:
            mask: bool (B, T), False at padding among the first T; None where all count.
        """
        config = self.config
        like = self.typed_blocks()[0].attention.query_bias
        shape = (batch, config.heads, tokens, config.width // config.heads)
        return Cache(like, config.depth, shape, mask)

    def forward(
        self,
        x: Tensor,
        modulations: Sequence[Modulation | Tensor],
        pieces: Sequence[Piece],
        cache: Cache | None = None,
        rotation: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, l, D) of tokens x.

        Args:
            x: (B, l, D).
            modulations: of every block, as `modulations` gives them, or their source.
            pieces: of x, as `causal_pieces` gives them.
            cache: earlier tokens, to which x is added; None if x holds all of them.
            rotation: of x, as `attention.rotation_of` gives it.
        """
        # The first blocks are the last that the backward pass meets, when others have let go.
        recomputed = round(self.recompute * len(self.blocks)) if torch.is_grad_enabled() else 0
        for i, block in enumerate(self.blocks):
            if i < recomputed:
                x = checkpoint(
                    block, x, modulations[i], pieces, None, rotation, use_reentrant=False
                )
                continue
            stored = None if cache is None else cache.of(i)
            x = block(x, modulations[i], pieces, stored, rotation)  # (B, l, D)
        if cache is not None:
            cache.advance(x.shape[1])
        return x

    @torch.no_grad()
    def initialize(self) -> None:
        """The paper's start: small AdaLN, smaller gates, branches divided by sqrt(2 depth)."""
        config = self.config
        std = math.sqrt(1 / (3 * config.width))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.typed_blocks():
            block.attention.project.weight.div_(math.sqrt(2 * config.depth))
            block.mlp.project.weight.div_(math.sqrt(2 * config.depth))
            if isinstance(block, PlainBlock):
                continue
            if config.shared_adaln:
                block.offset.normal_(std=1 / math.sqrt(config.width))
                block.offset[2:].mul_(0.5)
                block.offset[:2].mul_(config.gate_init)
            else:
                block.modulation.weight[2 * config.width :].mul_(0.5)
                block.modulation.weight[: 2 * config.width].mul_(config.gate_init)
