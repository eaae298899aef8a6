"""VAR: predicts each whole token map from all coarser ones (VAR Sec. 3.1).

Embeds what the tokenizer's accumulated maps give, runs the trunk, reads logits. It knows scales
and channels of token maps, not the tokenizer.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.config.model import TransformerConfig
from nextscale.models.condition import ClassCondition
from nextscale.models.transformer import Cache, Modulation, Transformer, modulate
from nextscale.scales import Scales, areas, length, spans


class VAR(nn.Module):
    """Next-scale prediction over a pyramid.

    Args:
        config: trunk and condition.
        scales: the pyramid of its tokenizer.
        codes: V.
        latent: C, channels of the accumulated map that it reads.
    """

    def __init__(self, config: TransformerConfig, scales: Scales, codes: int, latent: int) -> None:
        super().__init__()
        self.config, self.scales = config, scales
        self.codes, self.latent = codes, latent
        width = config.width
        self.condition = ClassCondition(config.classes, width)
        self.start_position = nn.Parameter(torch.empty(areas(scales)[0], width))
        self.word_embedding = nn.Linear(latent, width)
        self.level_embedding = nn.Parameter(torch.empty(len(scales), width))
        self.position_embedding = nn.Parameter(torch.empty(length(scales), width))
        self.transformer = Transformer(config)
        self.head_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, codes)
        if not self.head.weight.is_meta:  # nothing to fill, and slow there: it imports sympy
            self.initialize()

    def forward(self, labels: Tensor, teacher_inputs: Tensor) -> Tensor:
        """Logits (B, L, V) of all scales at once, each from the coarser ones only.

        Args:
            labels: int64 (B,); the number of classes means none.
            teacher_inputs: (B, L - l of scale 1, C) from `Quantizer.teacher_inputs`.
        """
        condition = self.condition(labels)  # (B, D)
        source = self.transformer.modulation_source(condition)
        start = self.embed_start(condition)  # (B, l, D)
        begin = start.shape[1]
        words = self.word_embedding(teacher_inputs) + self.places(begin, length(self.scales))
        x = torch.cat([start, words.to(start.dtype)], 1)  # (B, L, D)
        x = self.transformer(x, [source] * self.config.depth, spans(self.scales))
        return self.logits(x, self.head_modulations(condition))

    def embed_start(self, condition: Tensor) -> Tensor:
        """Tokens (B, l, D) of the coarsest scale: the condition at each start position."""
        start = condition.unsqueeze(1) + self.start_position
        return start + self.places(0, self.start_position.shape[0])

    def embed(self, k: int, accumulated: Tensor) -> Tensor:
        """Tokens (B, l, D) of scale k > 0 from the accumulated map, shrunk to (B, C, h, w)."""
        words = accumulated.flatten(2).transpose(1, 2)  # (B, l, C)
        return self.word_embedding(words) + self.places(*spans(self.scales)[k])

    def places(self, begin: int, end: int) -> Tensor:
        """Level and position embeddings (l, D) of tokens begin to end."""
        levels = [k for k, area in enumerate(areas(self.scales)) for _ in range(area)]
        return self.level_embedding[levels[begin:end]] + self.position_embedding[begin:end]

    def head_modulations(self, condition: Tensor) -> Modulation:
        """Scale and shift of the head's norm, 2 x (B, 1, D)."""
        return self.head_modulation(F.silu(condition)).unflatten(1, (2, 1, -1)).unbind(1)

    def logits(self, x: Tensor, modulations: Modulation) -> Tensor:
        """Logits float32 (B, l, V) of hidden states (B, l, D)."""
        scale, shift = modulations
        normed = modulate(x, scale, shift)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.head.weight.float(), self.head.bias.float()
            return F.linear(normed.float(), weight, bias)

    def step(self, x: Tensor, modulations: list[Modulation], cache: Cache) -> Tensor:
        """Hidden states (B, l, D) of one more scale, whose tokens x are; the cache is extended."""
        return self.transformer(x, modulations, [(0, x.shape[1])], cache)

    @torch.no_grad()
    def initialize(self) -> None:
        """The paper's start: truncated normal everywhere, a head near zero."""
        self.transformer.initialize()
        std = math.sqrt(1 / (3 * self.config.width))
        weights = (
            self.condition.embedding.weight,
            self.start_position,
            self.word_embedding.weight,
            self.level_embedding,
            self.position_embedding,
            self.head_modulation.weight,
            self.head.weight,
        )
        for weight in weights:
            nn.init.trunc_normal_(weight, std=std)
        for layer in (self.word_embedding, self.head_modulation, self.head):
            nn.init.zeros_(layer.bias)
        self.head_modulation.weight.mul_(0.5)
        self.head.weight.mul_(0.02)
