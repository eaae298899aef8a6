"""The base class of what can be trained: a network, its loss, its validation, its checkpoint.

A stage knows torch and `Processes`; the loop alone knows accelerate.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nextscale.checkpoints import checkpoint
from nextscale.data.images import Batch
from nextscale.pipeline import Pipeline
from nextscale.storage.weights import read_tensors
from nextscale.training.processes import Processes
from nextscale.training.schedule import parameter_groups

Weights = Mapping[str, Tensor]  # of a whole objective, by name
Network = TypeVar("Network", bound=nn.Module)


class Stage(ABC):
    """A network with its loss, as `loop.Run` trains it.

    Attributes:
        command: the command that trains it, as a run's directory records it.
        better: name of the figure of `validate` that decides which checkpoint is best; smaller is
            better.
        file: name of the file in a checkpoint that holds the trained weights.
        prefix: what the names of these weights begin with in the objective.
        notes: lines printed at the start.
    """

    command: str
    better: str
    file: str
    prefix: str

    def __init__(self) -> None:
        self.notes: list[str] = []

    @abstractmethod
    def build(self, steps: int, processes: Processes) -> nn.Module:
        """Returns the objective: the network with its loss, not yet distributed.

        Args:
            steps: optimizer steps of the whole run.
        """

    def parameter_groups(self, objective: nn.Module) -> list[dict[str, Any]]:
        """Parameters with their optimizer options; here, those that decay and those that do not."""
        return parameter_groups(objective.named_parameters())

    @abstractmethod
    def step(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a micro-step and further terms to log, all scalars on the device.

        Args:
            network: the objective, perhaps distributed.
            batch: on the device.
            step: number of the optimizer step, from 0.
        """

    def after_step(self, step: int, optimizer: Optimizer, processes: Processes) -> None:
        """Changes weights or optimizer after an optimizer step; by default it does nothing."""
        del step, optimizer, processes

    def figures(self, processes: Processes) -> dict[str, Any]:
        """Figures to log since the last call, the same on every process; none by default."""
        del processes
        return {}

    @abstractmethod
    def validate(
        self, network: nn.Module, batches: Iterable[Batch], processes: Processes
    ) -> dict[str, Any]:
        """Figures of unseen images, the same on every process.

        Args:
            network: the objective in eval mode, perhaps distributed.
            batches: this process's part of them, on the device.
        """

    def pictures(self, weights: Weights, batch: Batch) -> dict[str, Tensor]:
        """Pictures (channels, H, W) in [0, 1] of a batch, by name; none by default.

        Args:
            batch: not on the device.
        """
        del weights, batch
        return {}

    @abstractmethod
    def write(self, weights: Weights, folder: Path) -> None:
        """Writes the model with an objective's weights into a folder that exists."""

    def read(self, folder: Path) -> Weights:
        """The trained weights in a folder of `write`, named as in the objective."""
        weights = read_tensors(folder / self.file)
        return {self.prefix + name: value for name, value in weights.items()}

    def stored(self, weights: Weights) -> dict[str, Tensor]:
        """The part of an objective's weights that `file` holds, named as there."""
        start = self.prefix
        return {
            name.removeprefix(start): w for name, w in weights.items() if name.startswith(start)
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Counts that a resumed run needs besides weights and optimizer; none by default.

        Each process has its own; a checkpoint holds their sums.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores the counts of `state_dict`."""
        del state


class PipelineStage(Stage):
    """A stage of a generative model, whose checkpoint is that of a pipeline."""

    @abstractmethod
    def pipeline(self, weights: Weights) -> Pipeline:
        """The pipeline with an objective's weights."""

    def write(self, weights: Weights, folder: Path) -> None:
        """Writes the pipeline's checkpoint."""
        checkpoint.write(self.pipeline(weights), folder)


def with_weights(build: Callable[[], Network], weights: Weights) -> Network:
    """A network that holds the given weights themselves; none are initialised or copied.

    Args:
        build: makes the network.
    """
    with torch.device("meta"):
        network = build()
    network.load_state_dict(dict(weights), assign=True)
    return network
