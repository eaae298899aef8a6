"""The transformer of the family: a condition and vectors of tokens in, logits out (VAR Sec. 3.1).

Condition, order and head are answers of their own; this file joins them around the trunk. It knows
scales and channels of token maps, not the tokenizer.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.architecture import TokenizerConfig, TransformerConfig
from nextscale.config.registry import CONDITIONS, HEADS
from nextscale.machine.devices import constant
from nextscale.models.attention import Cache, Piece, rotation_of, without_padding
from nextscale.models.condition import Condition, Context
from nextscale.models.heads import Head
from nextscale.models.layers import build_norm, modulate
from nextscale.models.orders import build_order
from nextscale.models.trunk import Modulation, Transformer
from nextscale.scales import Scales, length


class Model(nn.Module):
    """Embeddings, trunk and head over the tokens of a pyramid.

    Args:
        config: trunk, condition, order and head.
        scales: the pyramid of its tokenizer.
        alphabet: sizes of the choices of a token; (V,) of a codebook.
        latent: C, channels of the vectors that it reads.
    """

    def __init__(
        self, config: TransformerConfig, scales: Scales, alphabet: tuple[int, ...], latent: int
    ) -> None:
        super().__init__()
        self.config, self.scales = config, scales
        self.alphabet, self.latent = alphabet, latent
        self.order = build_order(config, scales)
        width = config.width
        self.condition: Condition = CONDITIONS.load(config.condition)(config)
        self.start_position = nn.Parameter(torch.empty(self.order.start, width))
        self.word_embedding = nn.Linear(latent, width)
        self.level_embedding = nn.Parameter(torch.empty(len(scales), width))
        if config.positions == "learned":
            self.position_embedding = nn.Parameter(torch.empty(length(scales), width))
        if any(self.order.known):
            self.known_embedding = nn.Parameter(torch.empty(1, width))  # of sampled cells
        self.transformer = Transformer(config)
        if config.adaln:
            self.head_modulation = nn.Linear(width, 2 * width)
        self.head_norm = build_norm(config, affine=not config.adaln)
        kind = config.head or ("softmax" if len(alphabet) == 1 else "channels")
        self.head: Head = HEADS.load(kind)(width, alphabet)
        if not self.head.weight.is_meta:  # nothing to fill, and slow there: it imports sympy
            self.initialize()

    @property
    def codes(self) -> int:
        """V, the number of tokens."""
        return math.prod(self.alphabet)

    @property
    def steps(self) -> int:
        """Evaluations of the network, one after the other, that an image takes."""
        return len(self.order.steps)

    def forward(self, given: Tensor, teacher_inputs: Tensor) -> Tensor:
        """Logits (B, L, V) of all tokens at once, each from those of earlier steps only.

        Args:
            given: what is wanted, as `condition.read` gives it: labels int64 (B,).
            teacher_inputs: (B, N - start, C) from `order.teacher_inputs`.
        """
        context, order, count = self.condition(given), self.order, len(self.order.levels)
        sources = self.transformer.modulation_sources(context.vector)
        start = self.embed_start(context)  # (B, T - 1 + l, D)
        before = start.shape[1] - order.start  # T - 1
        words = self.words(teacher_inputs) + self.places(order.start, count)
        x = torch.cat([start, words.to(start.dtype)], 1)  # (B, T - 1 + N, D)
        pieces = without_padding(order.pieces(before, x.device), context.mask)
        rotation = self.rotation(context, 0, count)
        x = self.transformer(x, sources, pieces, rotation=rotation)  # (B, T - 1 + N, D)
        x = x[:, before:] if before else x  # (B, N, D)
        if order.predictors != list(range(count)):
            x = x[:, constant(order.predictors, x.device)]  # (B, L, D)
        return self.logits(x, self.head_modulations(context.vector))

    def words(self, vectors: Tensor) -> Tensor:
        """Tokens (B, l, D) of code vectors (B, l, C) of any dtype, without their places."""
        return self.word_embedding(vectors.to(self.word_embedding.weight.dtype))

    def embed_start(self, context: Context) -> Tensor:
        """Tokens (B, T - 1 + l, D) of the first step: the last slot at each start position."""
        slots = context.slots()  # (B, T, D)
        alone = slots.shape[1] == 1
        start = (slots if alone else slots[:, -1:]) + self.start_position
        start = start + self.places(0, self.order.start)
        return start if alone else torch.cat([slots[:, :-1].to(start.dtype), start], 1)

    def embed(self, step: int, vectors: Tensor) -> Tensor:
        """Tokens (B, l, D) that step > 0 reads, of its inputs (B, l, C)."""
        return self.words(vectors) + self.places(*self.order.spans[step])

    def places(self, begin: int, end: int) -> Tensor:
        """Embeddings (l, D) of level, position and kind of tokens begin to end."""
        device, order = self.level_embedding.device, self.order
        places = self.level_embedding[constant(order.levels[begin:end], device)]
        if self.config.positions == "learned":
            positions = constant(order.positions[begin:end], device)
            places = places + self.position_embedding[positions]
        known = order.known[begin:end]
        if any(known):
            marks = constant(known, device, self.known_embedding.dtype)
            places = places + marks[:, None] * self.known_embedding
        return places

    def rotation(self, context: Context, begin: int, end: int) -> Tensor | None:
        """Rotary positions of tokens begin to end, and of the context before them if begin is 0.

        The cells of every scale spread over the finest one, behind the context's last position.
        """
        if self.config.positions != "rotary":
            return None
        batch, slots = context.slots().shape[:2]
        device = self.level_embedding.device
        cells = constant(self.order.coordinates, device, torch.float32).view(-1, 2)[begin:end]
        slot = context.positions
        if slot is None:
            slot = constant(range(slots), device).expand(batch, -1)  # (B, T)
        found = cells + slot[:, -1, None, None]  # (B, l, 2)
        if begin == 0:
            prefix = slot[:, :-1, None].expand(-1, -1, 2)  # (B, T - 1, 2)
            found = torch.cat([prefix.to(found.dtype), found], 1)
        return rotation_of(found, self.config.width // self.config.heads)

    def head_modulations(self, vector: Tensor | None) -> Modulation:
        """Scale and shift of the head's norm, 2 x (B, 1, D); none without AdaLN."""
        if not self.config.adaln or vector is None:
            return ()
        return self.head_modulation(F.silu(vector)).unflatten(1, (2, 1, -1)).unbind(1)

    def logits(self, x: Tensor, modulations: Modulation) -> Tensor:
        """Logits float32 (B, l, V) of hidden states (B, l, D)."""
        normed = self.head_norm(x)
        return self.head(modulate(normed, *modulations) if modulations else normed)

    def step(
        self,
        x: Tensor,
        modulations: list[Modulation],
        cache: Cache,
        rotation: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, l, D) of the tokens of a step; the cache is extended."""
        piece: Piece = (0, x.shape[1], None)
        return self.transformer(x, modulations, [piece], cache, rotation)

    @torch.no_grad()
    def initialize(self) -> None:
        """The paper's start: truncated normal everywhere, a head near zero."""
        self.transformer.initialize()
        std = math.sqrt(1 / (3 * self.config.width))
        modulation = [self.head_modulation] if self.config.adaln else []
        named = dict(self.named_parameters())
        embeddings = [
            named[name] for name in ("position_embedding", "known_embedding") if name in named
        ]
        weights = (
            *(weight for weight in self.condition.parameters() if weight.ndim > 1),
            self.start_position,
            self.word_embedding.weight,
            self.level_embedding,
            *embeddings,
            *(layer.weight for layer in modulation),
            self.head.weight,
        )
        for weight in weights:
            nn.init.trunc_normal_(weight, std=std)
        for layer in (self.word_embedding, *modulation, self.head):
            nn.init.zeros_(layer.bias)
        if self.config.adaln:
            self.head_modulation.weight.mul_(0.5)
        self.head.weight.mul_(0.02)


def build_model(config: TransformerConfig, tokenizer: TokenizerConfig) -> Model:
    """A transformer for a tokenizer's tokens, freshly initialised unless on the meta device.

    Raises:
        UsageError: if the order does not fit the tokenizer's scales.
    """
    return Model(config, tokenizer.scales, tokenizer.alphabet, tokenizer.latent)
