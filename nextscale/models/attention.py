"""Block-causal attention: over the coarser scales in training, over a cache in sampling."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.architecture import TransformerConfig
from nextscale.machine.devices import kept

MAX_LOG_SCALE = math.log(100)  # released VAR models
PLAIN_SCALE = 0.25  # over sqrt(head width), of released models without normalised attention
MERGED = 128  # tokens; the coarse scales that fit share one masked attention call
ROTATION_BASE = 1e4  # of rotary positions (RoFormer, arXiv 2104.09864)
Piece = tuple[int, int, Tensor | None]


class Stored(NamedTuple):
    """What a block reads of earlier tokens, and where it writes its own.

    Attributes:
        memory: keys and values (2, B, heads, N, D / heads).
        begin: tokens known in it.
        mask: bool (B, 1, 1, N), False at keys that nobody may see; None shows all.
    """

    memory: Tensor
    begin: int
    mask: Tensor | None = None


class Cache:
    """Keys and values of every block for the tokens so far, allocated once.

    Args:
        mask: bool (B, T), False at padding among the first T tokens; None where all count.
    """

    def __init__(
        self,
        like: Tensor,
        depth: int,
        shape: tuple[int, int, int, int],
        mask: Tensor | None = None,
    ) -> None:
        self.memory = like.new_empty(depth, 2, *shape).unbind(0)  # depth x (2, B, heads, N, h)
        self.length = 0
        self.mask = None if mask is None else key_mask(mask, shape[2])

    def of(self, block: int) -> Stored:
        """What a block reads, and writes its new keys and values into."""
        return Stored(self.memory[block], self.length, self.mask)

    def advance(self, tokens: int) -> None:
        """Counts tokens as known once every block has stored them."""
        self.length += tokens


class Attention(nn.Module):
    """Self-attention, block-causal over steps; cosines under a learned scale if normalised."""

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

    def forward(
        self,
        x: Tensor,
        pieces: Sequence[Piece],
        stored: Stored | None = None,
        rotation: Tensor | None = None,
    ) -> Tensor:
        """Attends from every step to itself and all earlier ones.

        Args:
            x: (B, l, D).
            pieces: of x, as `causal_pieces` gives them.
            stored: earlier tokens, to which x is added; None if x holds all of them.
            rotation: of queries and keys, as `rotation_of` gives it.
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
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if stored is None:
            return self.project(attend_pieces(q, k, v, pieces, scale))  # (B, l, D)
        return self.project(torch.ops.nextscale.attend_stored(q, k, v, *stored, scale))


def causal_pieces(
    spans: Sequence[tuple[int, int]], device: torch.device, most: int = MERGED
) -> list[Piece]:
    """Cuts tokens into attention calls that see their own step and all earlier ones.

    A large step is a call of its own over its prefix, so that no masked score is computed. The
    coarse ones, too short to be worth a call each, share one with a mask.

    Args:
        spans: first token of each step and the one after its last.
        most: tokens whose steps share a call.

    Returns:
        first token, the one after the last, and mask (l, l) or None, of each call.
    """
    merged = [span for span in spans if span[1] <= most]
    if len(merged) < 2:
        return [(begin, end, None) for begin, end in spans]
    mask = causal_mask(tuple(merged), device)
    return [(0, merged[-1][1], mask), *((begin, end, None) for begin, end in spans[len(merged) :])]


def causal_mask(spans: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Mask bool (l, l) of steps that see themselves and all earlier ones, copied once a device."""
    levels = [k for k, (begin, end) in enumerate(spans) for _ in range(begin, end)]

    def make() -> Tensor:
        level = torch.tensor(levels, device=device)  # (l,)
        return level[:, None] >= level

    return kept(("causal", spans, device), make)


def key_mask(mask: Tensor, tokens: int) -> Tensor:
    """A mask (B, T) of the first T of `tokens` keys for all of them, (B, 1, 1, tokens)."""
    return F.pad(mask, (0, tokens - mask.shape[1]), value=True)[:, None, None]


def without_padding(pieces: Sequence[Piece], mask: Tensor | None) -> list[Piece]:
    """Attention calls that do not see padding either, by a mask (B, T) of the first T tokens."""
    if mask is None:
        return list(pieces)
    end = pieces[-1][1]
    seen = key_mask(mask, end)  # (B, 1, 1, N)
    return [
        (begin, end, seen[..., :end] if own is None else seen[..., :end] & own)
        for begin, end, own in pieces
    ]


def rotation_of(positions: Tensor, width: int) -> Tensor:
    """Rotation of heads by positions: cosines and sines, float32 (2, B, 1, l, width / 2).

    The first half of a head turns by the row, the second by the column; pairs lie half of a half
    apart.

    Args:
        positions: rows and columns, (B, l, 2).
        width: of a head, a multiple of 4.
    """
    count = width // 4
    powers = torch.arange(count, device=positions.device) / count
    angles = positions.float().unsqueeze(-1) * ROTATION_BASE**-powers  # (B, l, 2, width / 4)
    angles = angles.flatten(2).unsqueeze(1)  # (B, 1, l, width / 2)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Queries or keys (B, heads, l, width) turned by `rotation_of`."""
    cosine, sine = rotation
    u, v = x.float().unflatten(-1, (2, 2, -1)).unbind(-2)  # 2 x (B, heads, l, 2, width / 4)
    u, v = u.flatten(-2), v.flatten(-2)  # (B, heads, l, width / 2)
    turned = torch.stack([u * cosine - v * sine, v * cosine + u * sine], -2)
    turned = turned.unflatten(-1, (2, -1)).movedim(-3, -2)  # (B, heads, l, 2, 2, width / 4)
    return turned.flatten(-3).to(x.dtype)


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
    q: Tensor, k: Tensor, v: Tensor, memory: Tensor, begin: int, mask: Tensor | None, scale: float
) -> Tensor:
    """Writes keys and values behind the known ones, then attends to all of them.

    Args:
        q, k, v: (B, heads, l, width).
        memory, begin, mask: as in `Stored`.
        scale: of the products.

    Returns:
        (B, l, D).
    """
    end = begin + k.shape[2]
    memory[0, :, :, begin:end] = k
    memory[1, :, :, begin:end] = v
    seen = None if mask is None else mask[..., :end]
    return attend(q, memory[0, :, :, :end], memory[1, :, :, :end], seen, scale)


# An operator for compilers: they do not copy the memory to write into it, and CUDA graphs, whose
# addresses are fixed, leave it out. (`torch.library.custom_op` would import the compiler itself.)
STORED = "nextscale::attend_stored"
torch.library.define(
    STORED,
    "(Tensor q, Tensor k, Tensor v, Tensor(a!) memory, SymInt begin, Tensor? mask, float scale)"
    " -> Tensor",
    tags=torch.Tag.cudagraph_unsafe,
)
torch.library.impl(STORED, "default", attend_stored)


@torch.library.register_fake(STORED)
def _(
    q: Tensor, k: Tensor, v: Tensor, memory: Tensor, begin: int, mask: Tensor | None, scale: float
) -> Tensor:
    del k, v, memory, begin, mask, scale
    return torch.empty_like(q.transpose(1, 2).flatten(2), memory_format=torch.contiguous_format)
