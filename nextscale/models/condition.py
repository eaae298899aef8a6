"""Conditions: what is wanted, as users say it and as the network reads it (VAR Sec. 3.2)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextscale.config.architecture import TransformerConfig
from nextscale.errors import UsageError
from nextscale.models.labels import Label, label_name, label_number


@dataclass(frozen=True)
class Context:
    """What the network reads of a condition.

    Attributes:
        vector: input of every AdaLN, (B, D); None for trunks without.
        states: prefix (B, T, D), T >= 1, whose last slot predicts the first scale; None is one
            slot, the vector.
        mask: bool (B, T), False where a slot is padding; None where all slots count.
        positions: of the slots, (B, T); None takes 0 to T - 1.
    """

    vector: Tensor | None
    states: Tensor | None = None
    mask: Tensor | None = None
    positions: Tensor | None = None

    def slots(self) -> Tensor:
        """The prefix (B, T, D)."""
        if self.states is not None:
            return self.states
        assert self.vector is not None
        return self.vector.unsqueeze(1)


class Condition(nn.Module, ABC):
    """What every condition offers.

    `given` is what `read` returns: a tensor whose first dimension is the batch.
    """

    @abstractmethod
    def read(self, wanted: Sequence[Label], names: Sequence[str]) -> Tensor:
        """What users say, as the network takes it; on the CPU.

        Args:
            wanted: names, or numbers as integers; None means nothing in particular.
            names: of the classes, in the order of their numbers; may be empty.

        Raises:
            UsageError: at what the condition does not know.
        """

    @abstractmethod
    def say(self, given: Tensor, names: Sequence[str]) -> list[tuple[int | None, str]]:
        """The inverse of `read`: numbers, None for "none", and texts that it reads so."""

    @abstractmethod
    def all(self) -> Tensor:
        """Everything that can be wanted, one after the other; "none" where nothing else can."""

    @abstractmethod
    def check(self, given: Tensor) -> None:
        """Raises UsageError at values that `forward` cannot take."""

    @abstractmethod
    def drop(self, given: Tensor, dropped: Tensor | None = None) -> Tensor:
        """The same with "none" where `dropped`, bool (B,), says so; everywhere unless given."""

    @abstractmethod
    def forward(self, given: Tensor) -> Context: ...


class ClassCondition(Condition):
    """An embedding a class and one more, at index `classes`, that means no class.

    With `classes` = 0 only "none" is left: the unconditional model.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.classes = config.classes
        # Its own normal_ would import torch._dynamo on the meta device, a second at every load.
        weight = torch.empty(config.classes + 1, config.width)
        self.embedding = nn.Embedding.from_pretrained(weight, freeze=False)

    def read(self, wanted: Sequence[Label], names: Sequence[str]) -> Tensor:
        """Numbers int64 (B,) of labels; see `labels.label_number`."""
        numbers = [label_number(label, names, self.classes) for label in wanted]
        return torch.tensor(numbers, dtype=torch.long, device="cpu")

    def say(self, given: Tensor, names: Sequence[str]) -> list[tuple[int | None, str]]:
        return [
            (None if number == self.classes else number, label_name(number, names, self.classes))
            for number in given.tolist()
        ]

    def all(self) -> Tensor:
        numbers = range(self.classes) if self.classes else [0]
        return torch.tensor(numbers, dtype=torch.long)

    def check(self, given: Tensor) -> None:
        if given.numel() == 0:
            raise UsageError("no labels are given; give at least one")
        least, most = (int(value) for value in given.aminmax())
        if least < 0 or most > self.classes:
            bad = least if least < 0 else most
            raise UsageError(
                f"label {bad} is out of range; the model knows 0 to {self.classes} (= none)"
            )

    def drop(self, given: Tensor, dropped: Tensor | None = None) -> Tensor:
        if dropped is None:
            return torch.full_like(given, self.classes)
        return given.masked_fill(dropped, self.classes)

    def forward(self, given: Tensor) -> Context:
        """Labels int64 (B,) to one slot, which is the input of every AdaLN too."""
        return Context(self.embedding(given))  # (B, D)
