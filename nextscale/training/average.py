"""The exponential moving average of a network's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class MovingAverage:
    """Averages the trained parameters of a module, whole or sharded.

    Args:
        module: the network whose trained parameters are averaged.
        decay: share of the old average that an update keeps. Update n keeps at most
            (1 + n) / (10 + n), so that the initial weights lose their influence.
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
        """Gives the module the averaged weights inside this context and its own ones after it."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Swaps weights and averages in place, as a sharded module requires."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            own = parameter.clone()
            parameter.copy_(value)
            value.copy_(own)

    def state_dict(self) -> list[Tensor]:
        """Returns whole averages in the order of the parameters. All processes take part."""
        return [v.full_tensor() if isinstance(v, DTensor) else v for v in self.values]

    @torch.no_grad()
    def load_state_dict(self, values: list[Tensor]) -> None:
        """Restores the averages of `state_dict`."""
        for ours, theirs in zip(self.values, values, strict=True):
            if isinstance(ours, DTensor):
                theirs = distribute_tensor(
                    theirs.to(ours.device), ours.device_mesh, ours.placements
                )
            ours.copy_(theirs)
