"""Reads `training.pt`, from which a run continues: types, bounds and shapes, before it is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AllowInfNan, BaseModel, ConfigDict, Field
from torch import Tensor

from nextscale.config.validation import check_type
from nextscale.errors import UsageError
from nextscale.training.log import LARGEST_STEP
from nextscale.weights import read_pickle

TRAINING = "training.pt"
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


class Best(BaseModel):
    """The best validation so far; step -1 and infinity before the first."""

    model_config = STRICT

    step: Annotated[int, Field(ge=-1, le=LARGEST_STEP)]
    value: Annotated[float, AllowInfNan(True)]


class Optimizer(BaseModel):
    """The optimizer's state by the names of parameters."""

    model_config = STRICT

    state: dict[str, dict[str, Tensor | float]]
    param_groups: list[dict[str, Any]]


class Saved(BaseModel):
    """What `training.pt` holds."""

    model_config = STRICT

    step: Annotated[int, Field(ge=0, le=LARGEST_STEP)]
    best: Best
    network: dict[str, Tensor]
    optimizer: Optimizer
    stage: dict[str, Tensor]
    average: list[Tensor]
    scaler: dict[str, Any] = {}


def load_training(place: Path) -> dict[str, Any]:
    """What `training.pt` of a checkpoint holds.

    Raises:
        UsageError: if the file is damaged, would execute code, or holds values of other types.
    """
    file = place / TRAINING
    try:
        state = read_pickle(file)
        check_type(Saved, state, "the run's state")
    except UsageError as error:
        raise refused(place, str(error)) from error
    return state


def check_fits(state: Mapping[str, Any], wanted: Mapping[str, Any], place: Path) -> None:
    """Raises UsageError unless weights and optimizer state are finite and fit a network's.

    Args:
        wanted: the network's state dict, perhaps sharded.
    """
    check_tensors(state["network"], wanted, "network", place)
    moments = state["optimizer"]["state"]
    for name, entries in moments.items():
        if name not in wanted:
            raise refused(place, f"optimizer has a state of {name!r}, which the network has not")
        tensors = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
        shaped = {key: wanted[name] for key, value in tensors.items() if value.ndim}
        check_tensors({key: tensors[key] for key in shaped}, shaped, f"optimizer, {name}", place)


def check_tensors(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str, place: Path
) -> None:
    """Raises UsageError at the first tensor that is missing, unknown, misshapen or not finite."""
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if name not in found or name not in wanted:
            raise refused(place, f"{what}: {name} is {'missing' if name in wanted else 'unknown'}")
        tensor, like = found[name], wanted[name]
        if tensor.shape != like.shape or tensor.is_floating_point() != like.is_floating_point():
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
