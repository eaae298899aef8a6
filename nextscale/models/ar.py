"""AR: the next-token baseline on the trunk of VAR (VAR Sec. 3.1 and first row of its ablation).

One token map, flattened along a path; every token is predicted from those before it.
"""

import torch
from torch import Tensor

from nextscale.config.model import TransformerConfig
from nextscale.errors import UsageError
from nextscale.models.predictor import Predictor
from nextscale.models.transformer import Piece
from nextscale.scales import Scale, Scales, describe


class AR(Predictor):
    """Next-token prediction over a single map; arguments as `Predictor`'s.

    Raises:
        UsageError: if the pyramid has more than one scale.
    """

    def __init__(self, config: TransformerConfig, scales: Scales, codes: int, latent: int) -> None:
        if len(scales) != 1:
            raise UsageError(
                f"order {config.order} predicts the tokens of a single map, but the tokenizer has "
                f"the scales {describe(scales)}; train one with a single scale"
            )
        super().__init__(config, scales, codes, latent, start=1)
        self.path = path_over(config.order, scales[0])

    @property
    def steps(self) -> int:
        """One a token."""
        return len(self.path)

    def forward(self, labels: Tensor, teacher_inputs: Tensor) -> Tensor:
        """Logits (B, L, V) of the map's tokens in rows, each from those before it on the path.

        Args:
            labels: int64 (B,); the number of classes means none.
            teacher_inputs: code vectors of the map in rows, (B, L, C).
        """
        condition = self.condition(labels)  # (B, D)
        source = self.transformer.modulation_source(condition)
        known = teacher_inputs[:, self.path[:-1]]  # (B, L - 1, C), along the path
        words = self.words(known) + self.places(1, len(self.path))
        start = self.embed_start(condition)  # (B, 1, D)
        x = torch.cat([start, words.to(start.dtype)], 1)  # (B, L, D)
        before = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        piece: Piece = (0, x.shape[1], before)
        x = self.transformer(x, [source] * self.config.depth, [piece])
        logits = self.logits(x, self.head_modulations(condition))
        in_rows = sorted(range(len(self.path)), key=self.path.__getitem__)
        return logits[:, in_rows]

    def embed(self, i: int, vectors: Tensor) -> Tensor:
        """The token (B, 1, D) that predicts number i > 0 of the path, from the code before it.

        Args:
            vectors: of that code, (B, 1, C).
        """
        return self.words(vectors) + self.places(i, i + 1)


def path_over(order: str, scale: Scale) -> list[int]:
    """The map's tokens, numbered in rows, in the order in which they are predicted.

    Args:
        order: `raster` goes by rows; `spiral` from the centre outwards, clockwise; `z-curve` by the
            interleaved bits of row and column.
        scale: (h, w).
    """
    height, width = scale
    places = [(y, x) for y in range(height) for x in range(width)]
    if order == "spiral":
        places = spiral(height, width)
    elif order == "z-curve":
        places.sort(key=lambda place: interleaved(*place))
    return [y * width + x for y, x in places]


def spiral(height: int, width: int) -> list[tuple[int, int]]:
    """All places (row, column), from the centre outwards."""
    y, x, inside = (height - 1) // 2, (width - 1) // 2, []
    dy, dx, run = 0, 1, 1
    while len(inside) < height * width:
        for _ in range(2):  # two runs of every length
            for _ in range(run):
                if 0 <= y < height and 0 <= x < width:
                    inside.append((y, x))
                y, x = y + dy, x + dx
            dy, dx = dx, -dy
        run += 1
    return inside


def interleaved(y: int, x: int) -> int:
    """Morton code: the bits of row and column in turn."""
    bits = max(y, x).bit_length()
    return sum((x >> b & 1) << 2 * b | (y >> b & 1) << 2 * b + 1 for b in range(bits))
