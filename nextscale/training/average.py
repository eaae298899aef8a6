"""Exponential moving average of weights, kept beside them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """Averages the trained parameters of a module, whole or sharded.

    Args:
        module: whose parameters are followed.
        decay: share of the old average kept at every update; early updates keep less, (1 + n) /
            (10 + n), so that the start is forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.parameters: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.values = [p.detach().clone() for p in self.parameters]
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the weights after optimizer step `step`, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, self.parameters, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module holds the average inside this context, its own weights again behind it."""
        own = [p.data for p in self.parameters]
        try:
            for parameter, value in zip(self.parameters, self.values, strict=True):
                parameter.data = value
            yield
        finally:
            for parameter, value in zip(self.parameters, own, strict=True):
                parameter.data = value

    def state_dict(self) -> list[Tensor]:
        """The averages, in the order of the parameters."""
        return self.values

    @torch.no_grad()
    def load_state_dict(self, values: list[Tensor]) -> None:
        """Copies averages back."""
        for ours, theirs in zip(self.values, values, strict=True):
            ours.copy_(theirs)
