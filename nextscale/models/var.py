"""VAR: predicts each whole token map from all coarser ones (VAR Sec. 3.1).

Embeds what the tokenizer's accumulated maps give, runs the trunk, reads logits. It knows scales
and channels of token maps, not the tokenizer.
"""

import torch
from torch import Tensor

from nextscale.config.model import TransformerConfig
from nextscale.models.predictor import Predictor
from nextscale.models.transformer import causal_pieces
from nextscale.scales import Scales, areas, length, spans


class VAR(Predictor):
    """Next-scale prediction over a pyramid; arguments as `Predictor`'s."""

    def __init__(self, config: TransformerConfig, scales: Scales, codes: int, latent: int) -> None:
        super().__init__(config, scales, codes, latent, start=areas(scales)[0])

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
        words = self.words(teacher_inputs) + self.places(begin, length(self.scales))
        x = torch.cat([start, words.to(start.dtype)], 1)  # (B, L, D)
        pieces = causal_pieces(spans(self.scales), x.device)
        x = self.transformer(x, [source] * self.config.depth, pieces)
        return self.logits(x, self.head_modulations(condition))

    def embed(self, k: int, accumulated: Tensor) -> Tensor:
        """Tokens (B, l, D) of scale k > 0 from the accumulated map, shrunk to (B, C, h, w)."""
        vectors = accumulated.flatten(2).transpose(1, 2)  # (B, l, C)
        return self.words(vectors) + self.places(*spans(self.scales)[k])
