"""What next-scale and next-token prediction share: condition and code vectors in, logits out."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.model import TransformerConfig
from nextscale.models.condition import ClassCondition
from nextscale.models.transformer import EPSILON, Cache, Modulation, Piece, Transformer, modulate
from nextscale.scales import Scales, areas, length


class Predictor(nn.Module):
    """Embeddings, trunk and head over the tokens of a pyramid.

    Args:
        config: trunk and condition.
        scales: the pyramid of its tokenizer.
        codes: V.
        latent: C, channels of the vectors that it reads.
        start: tokens that are predicted from the condition alone.
    """

    def __init__(
        self, config: TransformerConfig, scales: Scales, codes: int, latent: int, start: int
    ) -> None:
        super().__init__()
        self.config, self.scales = config, scales
        self.codes, self.latent = codes, latent
        width = config.width
        self.condition = ClassCondition(config.classes, width)
        self.start_position = nn.Parameter(torch.empty(start, width))
        self.word_embedding = nn.Linear(latent, width)
        self.level_embedding = nn.Parameter(torch.empty(len(scales), width))
        self.position_embedding = nn.Parameter(torch.empty(length(scales), width))
        self.transformer = Transformer(config)
        if config.adaln:
            self.head_modulation = nn.Linear(width, 2 * width)
        else:
            self.head_norm = nn.LayerNorm(width, eps=EPSILON)
        self.head = nn.Linear(width, codes)
        if not self.head.weight.is_meta:  # nothing to fill, and slow there: it imports sympy
            self.initialize()

    @property
    def steps(self) -> int:
        """Evaluations of the network, one after the other, that an image takes."""
        return len(self.scales)

    def words(self, vectors: Tensor) -> Tensor:
        """Tokens (B, l, D) of code vectors (B, l, C) of any dtype, without their places."""
        return self.word_embedding(vectors.to(self.word_embedding.weight.dtype))

    def embed_start(self, condition: Tensor) -> Tensor:
        """Tokens (B, l, D) that start the sequence: the condition at each start position."""
        start = condition.unsqueeze(1) + self.start_position
        return start + self.places(0, self.start_position.shape[0])

    def places(self, begin: int, end: int) -> Tensor:
        """Level and position embeddings (l, D) of tokens begin to end."""
        levels = [k for k, area in enumerate(areas(self.scales)) for _ in range(area)]
        return self.level_embedding[levels[begin:end]] + self.position_embedding[begin:end]

    def head_modulations(self, condition: Tensor) -> Modulation:
        """Scale and shift of the head's norm, 2 x (B, 1, D); none without AdaLN."""
        if not self.config.adaln:
            return ()
        return self.head_modulation(F.silu(condition)).unflatten(1, (2, 1, -1)).unbind(1)

    def logits(self, x: Tensor, modulations: Modulation) -> Tensor:
        """Logits float32 (B, l, V) of hidden states (B, l, D)."""
        normed = modulate(x, *modulations) if modulations else self.head_norm(x)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.head.weight.float(), self.head.bias.float()
            return F.linear(normed.float(), weight, bias)

    def step(self, x: Tensor, modulations: list[Modulation], cache: Cache) -> Tensor:
        """Hidden states (B, l, D) of tokens that are predicted together; the cache is extended."""
        piece: Piece = (0, x.shape[1], None)
        return self.transformer(x, modulations, [piece], cache)

    @torch.no_grad()
    def initialize(self) -> None:
        """The paper's start: truncated normal everywhere, a head near zero."""
        self.transformer.initialize()
        std = math.sqrt(1 / (3 * self.config.width))
        modulation = [self.head_modulation] if self.config.adaln else []
        weights = (
            self.condition.embedding.weight,
            self.start_position,
            self.word_embedding.weight,
            self.level_embedding,
            self.position_embedding,
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
