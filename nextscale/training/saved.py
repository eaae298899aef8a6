"""Reads `training.pt`, from which a run continues: types, bounds and shapes, before it is used.

It may come from anyone. What follows from the options of a run is not read from it.
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
COUNTED = 2**24  # where the optimizer's own count of updates, a float32, stays
LARGEST_SCALE = 2.0**127  # of a float32


class Best(BaseModel):
    """The validations so far, as `best.Best` keeps them; 0.1 kept the best alone."""

    model_config = STRICT

    step: Annotated[int, Field(ge=-1, le=LARGEST_STEP)]
    value: Annotated[float, Field(gt=-math.inf)]
    last: Annotated[float, Field(gt=-math.inf)] = math.inf
    waited: Annotated[int, Field(ge=0)] = 0


class Optimizer(BaseModel):
    """The optimizer's moments by the names of parameters; its groups are those that were built."""

    model_config = STRICT

    state: dict[str, dict[str, Tensor]]


class Scaler(BaseModel):
    """The scale of fp16 gradients; a run without it has an empty table."""

    model_config = STRICT

    scale: Annotated[float, Field(gt=0, le=LARGEST_SCALE)] = 1.0
    growth_tracker: Annotated[int, Field(ge=0, lt=2**31, alias="_growth_tracker")] = 0


class Saved(BaseModel):
    """What `training.pt` holds."""

    model_config = STRICT

    step: Annotated[int, Field(ge=0, le=LARGEST_STEP)]
    best: Best
    network: dict[str, Tensor]
    optimizer: Optimizer
    stage: dict[str, Tensor]
    average: list[Tensor]
    scaler: Scaler = Scaler()


def load_training(place: Path) -> dict[str, Any]:
    """What `training.pt` of a checkpoint holds.

    Raises:
        UsageError: if the file is damaged, would execute code, holds values of other types or
            steps that contradict each other or the place.
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
    """Raises UsageError unless a state's step is that of its place and its best one not later."""
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
        found, wanted: moments by their names, by the names of parameters; those wanted are of
            the built optimizer, perhaps sharded.
        updates: the fewest and the most that it may have counted.
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
    """Moments of parameters by both names, as a state dict."""
    return {f"{name}.{key}": value for name, own in moments.items() for key, value in own.items()}


def check_tensors(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str, place: Path
) -> None:
    """Raises UsageError at the first tensor that is missing, unknown, misshapen or not finite."""
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
    """The complaint about a state from which no run can continue."""
    return UsageError(
        f"{place / TRAINING} cannot be read ({reason}); remove {place} to continue from the "
        "checkpoint before"
    )


def name_of(step: int) -> str:
    """Directory name of a checkpoint, sorted like the numbers."""
    return f"step-{step:08d}"
