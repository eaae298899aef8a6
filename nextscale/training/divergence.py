"""Detects a loss that is not finite on any process, without waiting for the device at each step."""

import math

import torch
from torch import Tensor

from nextscale.errors import UsageError
from nextscale.training.directory import RunDirectory
from nextscale.training.processes import Processes


class Diverged(UsageError):
    """The loss is NaN or infinite."""


class Divergence:
    """The first step of a run whose loss is NaN or infinite.

    Args:
        processes: of the run.
        directory: whose checkpoints the error names.
    """

    def __init__(self, processes: Processes, directory: RunDirectory) -> None:
        self.processes, self.directory = processes, directory
        self.first = torch.full((), math.inf, device=processes.device)  # step

    def watch(self, loss: Tensor | float, step: int) -> None:
        """Checks the loss of optimizer step `step`, from 0, or of a validation after as many."""
        finite = torch.as_tensor(loss, device=self.first.device).detach().isfinite()
        self.first.clamp_(max=torch.where(finite, math.inf, step))

    def check(self) -> None:
        """Raises Diverged if any loss so far was NaN or infinite on any process.

        The error names the last good checkpoint; one that led to such a loss is not good.
        """
        first = -float(self.processes.maximum(-self.first))
        if math.isfinite(first):
            good = self.directory.latest(before=int(first))
            where = f"the last good checkpoint is {good}" if good else "there is no good checkpoint"
            raise Diverged(
                f"the loss became NaN or infinite; {where}; try a lower learning rate or --clip"
            )
