"""Learning rate, weight decay and parameter groups over a run (the released models' recipe)."""

import math
from collections.abc import Iterable
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from nextscale.config.run import TrainingConfig

CONSTANT_SHARE = 0.05  # of the steps after the warm-up, at the peak rate of the linear schedule

# Matrices and tables that the published trainer exempts from decay, as well as biases and vectors.
NO_DECAY = ("start_position", "position_embedding", "level_embedding", "offset", "log_scale")


class Schedule:
    """Learning rate and weight decay of a run, by optimizer step.

    A run that is resumed with more epochs keeps the schedule of its planned epochs.

    Args:
        config: of the run.
        planned_epochs: epochs for which the run was started.
        steps_in_epoch: optimizer steps.

    Attributes:
        steps: optimizer steps of the whole run.
        planned: optimizer steps of the planned epochs; shares of a run refer to these.
        cycle: number of steps after which the learning rate restarts.
        warmup: number of steps at the start of a cycle with a rising rate.
    """

    def __init__(self, config: TrainingConfig, planned_epochs: float, steps_in_epoch: int) -> None:
        def steps(epochs: float) -> int:
            return max(1, round(epochs * steps_in_epoch))

        self.config = config
        self.steps, self.planned = steps(config.epochs), steps(planned_epochs)
        cycle_epochs = config.restart_epochs or planned_epochs
        self.cycle = steps(cycle_epochs)
        given = config.warmup_epochs
        self.warmup = round((given if given >= 0 else cycle_epochs / 50) * steps_in_epoch)

    def rate(self, step: int) -> float:
        """Learning rate of an optimizer step, from 0."""
        config = self.config
        return learning_rate(
            step % self.cycle if config.restart_epochs else step,
            self.cycle,
            self.warmup,
            config.learning_rate,
            config.warmup_from,
            config.final,
            config.schedule,
        )

    def decay(self, step: int) -> float:
        """Weight decay of an optimizer step, from 0; constant after the planned steps."""
        first, last = self.config.weight_decay, self.config.weight_decay_end
        return weight_decay(min(step, self.planned - 1), self.planned, first, last)


def learning_rate(
    step: int,
    steps: int,
    warmup: int,
    peak: float,
    start: float,
    end: float,
    kind: Literal["linear", "cosine", "constant"],
) -> float:
    """Learning rate of an optimizer step.

    Args:
        step: from 0.
        steps: of the whole run.
        warmup: number of steps in which the rate rises linearly from `start` times the peak.
        peak: largest rate.
        start, end: rates of the first and the last step as shares of the peak.
        kind: `linear` stays at the peak and then falls linearly; `cosine` falls along a cosine
            after the warm-up; `constant` stays at the peak.
    """
    if step < warmup:
        return peak * (start + (1 - start) * step / warmup)
    if kind == "constant":
        return peak
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    if kind == "cosine":
        return peak * (end + (1 - end) * (0.5 + 0.5 * math.cos(math.pi * progress)))
    if progress < CONSTANT_SHARE:
        return peak
    return peak * (end + (1 - end) * (1 - progress) / (1 - CONSTANT_SHARE))


def weight_decay(step: int, steps: int, first: float, last: float) -> float:
    """Decay of an optimizer step, along a cosine from the first to the last value."""
    progress = step / max(1, steps - 1)
    return last + (first - last) * (0.5 + 0.5 * math.cos(math.pi * progress))


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], **options: Any
) -> list[dict[str, Any]]:
    """Splits named parameters into a group that decays and one that does not.

    Vectors, biases, positions, levels, shared-AdaLN offsets and attention scales do not decay; the
    class embedding does. `options` go into both groups.
    """
    decayed, kept = [], []
    for name, parameter in parameters:
        if parameter.requires_grad:
            (decayed if decays(name, parameter) else kept).append(parameter)
    groups = [
        {"params": decayed, "decays": True, **options},
        {"params": kept, "decays": False, **options},
    ]
    return [group for group in groups if group["params"]]


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies to a parameter."""
    return parameter.ndim >= 2 and name.rsplit(".", 1)[-1] not in NO_DECAY


def set_rates(optimizer: Optimizer, rate: float, decay: float) -> None:
    """Writes a step's learning rate and weight decay into the groups of `parameter_groups`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        group["weight_decay"] = decay if group["decays"] else 0.0
