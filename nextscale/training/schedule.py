"""Learning rate, weight decay and parameter groups over a run (the released models' recipe)."""

import math
from collections.abc import Iterable
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

CONSTANT_SHARE = 0.05  # of the steps behind the warm-up at the peak rate, in the linear schedule

# Matrices and tables that the published trainer exempts from decay beside biases and vectors.
NO_DECAY = ("start_position", "position_embedding", "level_embedding", "offset", "log_scale")


def learning_rate(
    step: int,
    steps: int,
    warmup: int,
    peak: float,
    start: float,
    end: float,
    kind: Literal["linear", "cosine"],
) -> float:
    """Rate of an optimizer step.

    Args:
        step: from 0.
        steps: of the whole run.
        warmup: steps of linear rise from `start` times the peak.
        end: over the peak, at the last step.
        kind: `linear` holds the peak, then falls in a line; `cosine` falls at once.
    """
    if step < warmup:
        return peak * (start + (1 - start) * step / warmup)
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
    """Whether a parameter is pulled to zero."""
    return parameter.ndim >= 2 and name.rsplit(".", 1)[-1] not in NO_DECAY


def set_rates(optimizer: Optimizer, rate: float, decay: float) -> None:
    """Writes a step's learning rate and weight decay into the groups of `parameter_groups`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        group["weight_decay"] = decay if group["decays"] else 0.0
