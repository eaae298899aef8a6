"""Reads `training.pt`, from which a run resumes, and checks types, bounds and shapes.

The file is not trusted. What the options of a run determine is not read from it.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from nextscale.config.validation import check_type
from nextscale.errors import UsageError
from nextscale.storage.weights import read_pickle
from nextscale.training.log import LARGEST_STEP

TRAINING = "training.pt"
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)
COUNTED = 2**24  # largest count of updates that the optimizer's float32 reaches
LARGEST_SCALE = 2.0**127  # of a float32


class Best(BaseModel):
    """State of `best.Best`; version 0.1 stored only step and value."""

    model_config = STRICT

    step: Annotated[int, Field(ge=-1, le=LARGEST_STEP)]
    value: Annotated[float, Field(gt=-math.inf)]
    last: Annotated[float, Field(gt=-math.inf)] = math.inf
    waited: Annotated[int, Field(ge=0)] = 0


class Optimizer(BaseModel):
    """Moments of the optimizer by parameter name; its groups come from the run's options."""

    model_config = STRICT

    state: dict[str, dict[str, Tensor]]


class Scaler(BaseModel):
    """Scale of fp16 gradients; the table is empty in other precisions."""

    model_config = STRICT

    scale: Annotated[float, Field(gt=0, le=LARGEST_SCALE)] = 1.0
    growth_tracker: Annotated[int, Field(ge=0, lt=2**31, alias="_growth_tracker")] = 0


class Saved(BaseModel):
    """Contents of `training.pt`."""

    model_config = STRICT

    step: Annotated[int, Field(ge=0, le=LARGEST_STEP)]
    best: Best
    network: dict[str, Tensor]
    optimizer: Optimizer
    stage: dict[str, Tensor]
    average: list[Tensor]
    scaler: Scaler = Scaler()


def load_training(place: Path) -> dict[str, Any]:
    """Reads `training.pt` of a checkpoint.

    Raises:
        UsageError: if the file is damaged, would execute code, holds values of other types, or if
            its steps contradict each other or the folder's name.
    """
    file = place / TRAINING
    try:
        state = read_pickle(file)
        check_type(Saved, state, "the run's state")
    except UsageError as error:
        raise refused(place, str(error)) from error
    check_steps(state["step"], state["best"], place)
    return state


def check_steps(step: int, best: Mapping[str, Any], place: Path) -> None:
    """Raises UsageError unless the folder's name holds the step and the best step is not later."""
    if place.name != name_of(step):
        raise refused(place, f"step is {step}; {name_of(step)} is the place of that step")
    for name in ("step", "waited"):
        if best.get(name, 0) > step:
            raise refused(place, f"best.{name} is {best[name]}; the run has done {step} steps")
    if (best["value"] == math.inf) != (best["step"] < 0):
        raise refused(place, f"best.value is {best['value']} and best.step {best['step']}")


def check_moments(
    found: Mapping[str, Mapping[str, Tensor]],
    wanted: Mapping[str, Mapping[str, Tensor]],
    updates: tuple[int, int],
    place: Path,
) -> None:
    """Raises UsageError unless an optimizer's moments are complete, finite and possible.

    Args:
        found, wanted: moments by parameter name and moment name; `wanted` are those of the built
            optimizer, perhaps sharded.
        updates: smallest and largest possible number of updates.
    """
    tensors = flat(found)
    check_tensors(tensors, flat(wanted), "optimizer", place)
    for name, tensor in tensors.items():
        moment = name.rpartition(".")[2]
        if moment == "step" and not min(updates[0], COUNTED) <= tensor.item() <= updates[1]:
            raise refused(
                place, f"optimizer: {name} is {tensor.item()}; the run has done {updates[1]} steps"
            )
        if moment == "exp_avg_sq" and (tensor < 0).any():
            raise refused(place, f"optimizer: {name} holds negative numbers")


def flat(moments: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Moments by parameter name and moment name, joined by a dot."""
    return {f"{name}.{key}": value for name, own in moments.items() for key, value in own.items()}


def check_tensors(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str, place: Path
) -> None:
    """Raises UsageError if a tensor is missing, unknown, of another kind, or not finite."""
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if name not in found or name not in wanted:
            raise refused(place, f"{what}: {name} is {'missing' if name in wanted else 'unknown'}")
        tensor, like = found[name], wanted[name]
        if tensor.shape != like.shape or tensor.dtype != like.dtype:
            kinds = [f"{str(t.dtype)[6:]} {tuple(t.shape)}" for t in (tensor, like)]
            raise refused(place, f"{what}: {name} is {kinds[0]}; {kinds[1]} is needed")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise refused(place, f"{what}: {name} holds NaN or infinity")


def refused(place: Path, reason: str) -> UsageError:
    """The error about a state from which a run cannot resume."""
    return UsageError(
        f"{place / TRAINING} cannot be read ({reason}); remove {place} to continue from the "
        "checkpoint before"
    )


def name_of(step: int) -> str:
    """Directory name of a step's checkpoint; names sort like steps."""
    return f"step-{step:08d}"
