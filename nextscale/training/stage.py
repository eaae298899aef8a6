"""What the loop requires of a tokenizer, a transformer or a classifier to train it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from nextscale.data.images import Batch

Weights = Mapping[str, Tensor]  # of a whole objective, by name


class Stage(Protocol):
    """A network with its loss, and how it is judged.

    Attributes:
        command: that trains it.
        better: the figure of `validate` that should be small.
        notes: lines printed at the start.
    """

    command: str
    better: str
    notes: list[str]

    def build(self, steps: int, accelerator: Accelerator) -> nn.Module: ...
    def parameter_groups(self) -> list[dict[str, Any]]: ...
    def step(
        self, network: nn.Module, batch: Batch, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]: ...
    def after_step(self, step: int, optimizer: Optimizer, accelerator: Accelerator) -> None: ...
    def figures(self, accelerator: Accelerator) -> dict[str, Any]: ...
    def validate(
        self, network: nn.Module, batches: Iterable[Batch], accelerator: Accelerator
    ) -> dict[str, Any]: ...
    def pictures(self, weights: Weights, batch: Batch) -> dict[str, Tensor]: ...
    def write(self, weights: Weights, folder: Path) -> None: ...
    def read(self, folder: Path) -> Weights: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...
