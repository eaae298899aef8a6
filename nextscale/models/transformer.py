"""The trunk: pre-norm blocks modulated by the condition (VAR Sec. 3.2; DiT Sec. 3.2).

Read from top to bottom: cache, attention, MLP, block, trunk. Embeddings and heads are in `var`.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nextscale.config.model import TransformerConfig
from nextscale.scales import position

MAX_LOG_SCALE = math.log(100)  # released VAR models
PLAIN_SCALE = 0.25  # over sqrt(head width), of released models without normalised attention
EPSILON = 1e-6  # of every layer norm
MERGED = 128  # tokens; the coarse scales that fit share one masked attention call
Modulation = tuple[Tensor, ...]
Piece = tuple[int, int, Tensor | None]
Stored = tuple[Tensor, int]  # a block's memory (2, B, heads, L, D / heads), tokens known in it


class Cache:
    """Keys and values of every block for the tokens drawn so far, allocated once."""

    def __init__(self, like: Tensor, depth: int, batch: int, heads: int, tokens: int, width: int):
        shape = (depth, 2, batch, heads, tokens, width)
        self.memory = like.new_empty(shape).unbind(0)
        self.length = 0

    def of(self, block: int) -> Stored:
        """What a block reads, and writes its new keys and values into."""
        return self.memory[block], self.length

    def advance(self, tokens: int) -> None:
        """Counts a scale as known once every block has stored it."""
        self.length += tokens


class Attention(nn.Module):
    """Self-attention, block-causal over scales; cosines under a learned scale if normalised."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.normalized = config.normalized_attention
        self.query_key_value = nn.Linear(config.width, 3 * config.width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(config.width))
        self.value_bias = nn.Parameter(torch.zeros(config.width))
        if self.normalized:
            self.log_scale = nn.Parameter(torch.full((config.heads,), math.log(4.0)))
        self.project = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, pieces: Sequence[Piece], stored: Stored | None = None) -> Tensor:
        """Attends from every scale to itself and all coarser ones.

        Args:
            x: (B, l, D).
            pieces: of x, as `causal_pieces` gives them.
            stored: earlier scales, to which x is added; None if x holds all of them.
        """
        batch, tokens, width = x.shape
        zero = torch.zeros_like(self.query_bias)
        bias = torch.cat([self.query_bias, zero, self.value_bias])
        mixed = F.linear(x, self.query_key_value.weight, bias)  # (B, l, 3D)
        q, k, v = mixed.view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.normalized:
            sharpness = self.log_scale.clamp(max=MAX_LOG_SCALE).exp()[:, None, None]
            q, k = F.normalize(q, dim=-1) * sharpness, F.normalize(k, dim=-1)
            scale = 1.0
        else:
            scale = PLAIN_SCALE / math.sqrt(width // self.heads)
        if stored is None:
            return self.project(attend_pieces(q, k, v, pieces, scale))  # (B, l, D)
        return self.project(torch.ops.nextscale.attend_stored(q, k, v, *stored, scale))


def causal_pieces(spans: Sequence[tuple[int, int]], device: torch.device) -> list[Piece]:
    """Cuts tokens into attention calls that see their own scale and all coarser ones.

    A fine scale is a call of its own over its prefix, so that no masked score is computed. The
    coarse ones, too short to be worth a call each, share one with a mask.

    Args:
        spans: first token of each scale and the one after its last.

    Returns:
        first token, the one after the last, and mask (l, l) or None, of each call.
    """
    merged = [span for span in spans if span[1] <= MERGED]
    if len(merged) < 2:
        return [(begin, end, None) for begin, end in spans]
    levels = [torch.full((end - begin,), k) for k, (begin, end) in enumerate(merged)]
    level = torch.cat(levels).to(device)  # (l,)
    shared = (0, merged[-1][1], level[:, None] >= level)
    return [shared, *((begin, end, None) for begin, end in spans[len(merged) :])]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention (B, l, D) of queries (B, heads, l, width) to keys and values."""
    dtype = v.dtype
    if q.device.type == "cpu" and mask is not None and torch.compiler.is_compiling():
        # For so few tokens a CPU's fused operator costs more than what a compiler fuses itself.
        scores = (q @ k.transpose(-2, -1)).float() * scale  # (B, heads, l, l)
        weights = scores.masked_fill(~mask, -math.inf).softmax(-1)
        out = weights.to(dtype) @ v
    elif q.device.type == "cpu":  # its backward is several times slower in bfloat16
        q, k, v = q.float(), k.float(), v.float()
        with torch.autocast("cpu", enabled=False):
            out = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    else:
        out = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    return out.transpose(1, 2).flatten(2).to(dtype)


def attend_pieces(q: Tensor, k: Tensor, v: Tensor, pieces: Sequence[Piece], scale: float) -> Tensor:
    """Attention (B, l, D) in calls that `causal_pieces` cuts."""
    out = [
        attend(q[:, :, begin:end], k[:, :, :end], v[:, :, :end], mask, scale)
        for begin, end, mask in pieces
    ]
    return torch.cat(out, 1) if len(out) > 1 else out[0]


def attend_stored(
    q: Tensor, k: Tensor, v: Tensor, memory: Tensor, begin: int, scale: float
) -> Tensor:
    """Writes keys and values behind the known ones, then attends to all of them.

    Args:
        q, k, v: (B, heads, l, width).
        memory: (2, B, heads, L, width).
        begin: tokens known in it.
        scale: of the products.

    Returns:
        (B, l, D).
    """
    end = begin + k.shape[2]
    memory[0, :, :, begin:end] = k
    memory[1, :, :, begin:end] = v
    return attend(q, memory[0, :, :, :end], memory[1, :, :, :end], None, scale)


# An operator for compilers: they do not copy the memory to write into it, and CUDA graphs, whose
# addresses are fixed, leave it out. (`torch.library.custom_op` would import the compiler itself.)
STORED = "nextscale::attend_stored"
torch.library.define(
    STORED,
    "(Tensor q, Tensor k, Tensor v, Tensor(a!) memory, SymInt begin, float scale) -> Tensor",
    tags=torch.Tag.cudagraph_unsafe,
)
torch.library.impl(STORED, "default", attend_stored)


@torch.library.register_fake(STORED)
def _(q: Tensor, k: Tensor, v: Tensor, memory: Tensor, begin: int, scale: float) -> Tensor:
    del k, v, memory, begin, scale
    return torch.empty_like(q.transpose(1, 2).flatten(2), memory_format=torch.contiguous_format)


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


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """LayerNorm without affine, then scaled by 1 + scale and shifted: AdaLN (DiT Sec. 3.2)."""
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON) * (1 + scale) + shift


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Stochastic depth: zeroes a sample's branch at this rate, enlarges others (1603.09382)."""
    if rate == 0:
        return x
    keep = x.new_empty(x.shape[0], 1, 1).bernoulli_(1 - rate)
    return x * (keep / (1 - rate))


class AdaLNBlock(nn.Module):
    """Transformer block with norms scaled, shifted, gated by the condition (DiT Sec. 3.2)."""

    def __init__(self, config: TransformerConfig, drop_rate: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        if config.shared_adaln:
            self.offset = nn.Parameter(torch.zeros(6, config.width))
        else:
            self.modulation = nn.Linear(config.width, 6 * config.width)
        self.attention = Attention(config)
        self.mlp = MLP(config)

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
    ) -> Tensor:
        """Hidden states (B, l, D) of tokens x (B, l, D).

        Args:
            modulations: of this block, or their source; then they are computed here, where a
                sharded block (FSDP) has its weights at hand.
            pieces, stored: as in `Attention`.
        """
        if isinstance(modulations, Tensor):
            modulations = self.modulations(modulations)
        gate_a, gate_m, scale_a, scale_m, shift_a, shift_m = modulations  # 6 x (B, 1, D)
        a = self.attention(modulate(x, scale_a, shift_a), pieces, stored)  # (B, l, D)
        rate = self.drop_rate if self.training else 0.0
        x = x + drop_path(gate_a * a, rate)
        m = self.mlp(modulate(x, scale_m, shift_m))  # (B, l, D)
        return x + drop_path(gate_m * m, rate)


class PlainBlock(nn.Module):
    """Pre-norm transformer block that no condition modulates, for the ablation's first rows."""

    def __init__(self, config: TransformerConfig, drop_rate: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.norm1 = nn.LayerNorm(config.width, eps=EPSILON)
        self.attention = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=EPSILON)
        self.mlp = MLP(config)

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
    ) -> Tensor:
        """As `AdaLNBlock`, whose arguments it takes."""
        del modulations
        rate = self.drop_rate if self.training else 0.0
        x = x + drop_path(self.attention(self.norm1(x), pieces, stored), rate)  # (B, l, D)
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

    def modulations(self, condition: Tensor) -> list[Modulation]:
        """All the blocks need of the condition (B, D), to be computed once an image."""
        source = self.modulation_source(condition)
        return [block.modulations(source) for block in self.typed_blocks()]

    def typed_blocks(self) -> list[AdaLNBlock | PlainBlock]:
        """The blocks, as what they are."""
        return cast(list[AdaLNBlock | PlainBlock], list(self.blocks))

    def new_cache(self, batch: int, tokens: int) -> Cache:
        """Room for the keys and values of `tokens` tokens."""
        config = self.config
        like = self.typed_blocks()[0].attention.query_bias
        return Cache(like, config.depth, batch, config.heads, tokens, config.width // config.heads)

    def forward(
        self,
        x: Tensor,
        modulations: Sequence[Modulation | Tensor],
        pieces: Sequence[Piece],
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states (B, l, D) of tokens x.

        Args:
            x: (B, l, D).
            modulations: of every block, as `modulations` gives them, or their source.
            pieces: of x, as `causal_pieces` gives them.
            cache: earlier tokens, to which x is added; None if x holds all of them.
        """
        # The first blocks are the last that the backward pass meets, when others have let go.
        recomputed = round(self.recompute * len(self.blocks)) if torch.is_grad_enabled() else 0
        for i, block in enumerate(self.blocks):
            if i < recomputed:
                x = checkpoint(block, x, modulations[i], pieces, use_reentrant=False)
                continue
            stored = None if cache is None else cache.of(i)
            x = block(x, modulations[i], pieces, stored)  # (B, l, D)
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
