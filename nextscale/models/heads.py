"""Heads: hidden states to distributions over tokens.

A token is made of choices, each with its own softmax; sampling and loss act on every choice.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Head(nn.Linear):
    """A linear map to the logits of all choices of a token.

    Args:
        width: D.
        choices: their sizes; the first is the most significant digit of a token.
    """

    def __init__(self, width: int, choices: tuple[int, ...]) -> None:
        super().__init__(width, sum(choices))
        self.choices = choices

    def forward(self, input: Tensor) -> Tensor:
        """Logits float32 (B, l, sum of choices) of normed hidden states (B, l, D)."""
        with torch.autocast("cpu" if input.is_meta else input.device.type, enabled=False):
            return F.linear(input.float(), self.weight.float(), self.bias.float())

    def split(self, logits: Tensor) -> Sequence[Tensor]:
        """The logits (B, l, size) of each choice."""
        return (logits,) if len(self.choices) == 1 else logits.split(self.choices, -1)

    def join(self, chosen: Sequence[Tensor]) -> Tensor:
        """Tokens (B, l) of the choices (B, l)."""
        tokens = chosen[0]
        for size, digit in zip(self.choices[1:], chosen[1:], strict=True):
            tokens = tokens * size + digit
        return tokens

    def digits(self, tokens: Tensor) -> list[Tensor]:
        """The inverse of `join`."""
        if len(self.choices) == 1:
            return [tokens]
        below = [math.prod(self.choices[i + 1 :]) for i in range(len(self.choices))]
        parts = zip(below, self.choices, strict=True)
        return [tokens.div(n, rounding_mode="floor") % size for n, size in parts]

    def losses(self, logits: Tensor, tokens: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy in nats of every token, (B, L); summed over the choices.

        Args:
            logits: (B, L, sum of choices).
            tokens: int64 (B, L).
            smoothing: probability of the target that is spread over all answers of a choice.
        """
        parts = zip(self.split(logits), self.digits(tokens), strict=True)
        losses = [
            F.cross_entropy(
                part.flatten(0, 1), digit.flatten(), reduction="none", label_smoothing=smoothing
            )
            for part, digit in parts
        ]
        return (losses[0] if len(losses) == 1 else torch.stack(losses).sum(0)).view_as(tokens)

    def likeliest(self, logits: Tensor) -> Tensor:
        """The likeliest token of each place, int64 (B, l)."""
        return self.join([part.argmax(-1) for part in self.split(logits)])

    def log_probabilities(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability in nats of each token, (B, L)."""
        parts = zip(self.split(logits), self.digits(tokens), strict=True)
        found = [p.log_softmax(-1).gather(2, d.unsqueeze(2)).squeeze(2) for p, d in parts]
        return found[0] if len(found) == 1 else torch.stack(found).sum(0)


class SoftmaxHead(Head):
    """One softmax over all V tokens."""

    def __init__(self, width: int, alphabet: tuple[int, ...]) -> None:
        super().__init__(width, (math.prod(alphabet),))


class ChannelHead(Head):
    """One softmax an entry of the alphabet: a channel of FSQ, a bit.

    Choices of a token are sampled independently; V may be as large as the alphabet allows.
    """

    def __init__(self, width: int, alphabet: tuple[int, ...]) -> None:
        super().__init__(width, alphabet)
