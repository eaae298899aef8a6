"""Notices a loss that is not finite, on any process, without waiting for the device every step."""

import math
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

from nextscale.errors import UsageError
from nextscale.training.directory import RunDirectory


class Diverged(UsageError):
    """The loss is not finite any more."""


class Divergence:
    """The first step of a run whose loss is NaN or infinite.

    Args:
        accelerator: of the run.
        directory: whose checkpoints the complaint names.
    """

    def __init__(self, accelerator: Accelerator, directory: RunDirectory) -> None:
        self.accelerator, self.directory = accelerator, directory
        self.first = torch.full((), math.inf, device=accelerator.device)  # step

    def watch(self, loss: Tensor | float, step: int) -> None:
        """Takes the loss of an optimizer step, from 0, or of a validation after `step` steps."""
        finite = torch.as_tensor(loss, device=self.first.device).detach().isfinite()
        self.first.clamp_(max=torch.where(finite, math.inf, step))

    def check(self) -> None:
        """Raises Diverged if any loss so far was NaN or infinite on any process.

        It names the last good checkpoint: one from which such a loss was computed is not good.
        """
        first = -float(cast(Tensor, self.accelerator.reduce(-self.first, "max")))
        if math.isfinite(first):
            good = self.directory.latest(before=int(first))
            where = f"the last good checkpoint is {good}" if good else "there is no good checkpoint"
            raise Diverged(
                f"the loss became NaN or infinite; {where}; try a lower learning rate or --clip"
            )
