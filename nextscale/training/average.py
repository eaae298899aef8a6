"""Exponential moving average of weights, kept beside them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


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
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Swaps weights and averages in place, where a sharded module reads them."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            own = parameter.clone()
            parameter.copy_(value)
            value.copy_(own)

    def state_dict(self) -> list[Tensor]:
        """The averages, whole, in the order of the parameters; all processes take part."""
        return [v.full_tensor() if isinstance(v, DTensor) else v for v in self.values]

    @torch.no_grad()
    def load_state_dict(self, values: list[Tensor]) -> None:
        """Copies whole averages back."""
        for ours, theirs in zip(self.values, values, strict=True):
            if isinstance(ours, DTensor):
                theirs = distribute_tensor(
                    theirs.to(ours.device), ours.device_mesh, ours.placements
                )
            ours.copy_(theirs)
