"""The processes of a run as stages see them: a device, and reductions over all processes."""

import torch
from torch import Tensor


class Processes:
    """A run of a single process; `engine.JoinedProcesses` are those that accelerate joined.

    Args:
        device: of this process.

    Attributes:
        index: of this process.
        count: of processes.
        sharded: whether each process holds only a part of the weights (FSDP).
    """

    index = 0
    count = 1
    sharded = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.index == 0

    def sum(self, value: Tensor) -> Tensor:
        """A new tensor: the sum of every process's value."""
        return value.clone()

    def mean(self, value: Tensor) -> Tensor:
        """A new tensor: the mean of every process's value."""
        return value.clone()

    def maximum(self, value: Tensor) -> Tensor:
        """A new tensor: the elementwise maximum of every process's value."""
        return value.clone()

    def gather(self, value: Tensor) -> Tensor:
        """The values (B, ...) of all processes along the first axis, in the order of processes."""
        return value

    def wait(self) -> None:
        """Returns once every process has called it."""
