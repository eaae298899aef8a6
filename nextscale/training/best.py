"""Keeps track of the best validation of a run and of those since then."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Best:
    """The best and the last validation of a run, judged by a figure; smaller is better.

    Attributes:
        figure: name of that figure.
        step: of the best validation; -1 before the first.
        value: of the best validation.
        last: value of the last validation.
        waited: validations in a row without a new best.
    """

    figure: str
    step: int = -1
    value: float = math.inf
    last: float = math.inf
    waited: int = 0

    def add(self, step: int, value: float, counts: bool = True) -> bool:
        """Adds a validation; returns whether it is the best so far.

        Args:
            counts: whether it counts for patience; one at an early end of a run does not.
        """
        self.last = value
        if value < self.value:
            self.step, self.value, self.waited = step, value, 0
            return True
        self.waited += counts
        return False

    def exhausted(self, patience: int) -> bool:
        """Whether `patience` validations in a row had no new best; never if `patience` is 0."""
        return 0 < patience <= self.waited

    def standing(self) -> str:
        """Describes the last validation relative to the best one."""
        if self.waited == 0 and self.last == self.value:
            return "best so far"
        return f"best is {self.value:.4g} at step {self.step}"

    def verdict(self, step: int) -> str:
        """Compares the best checkpoint with the final one, of step `step`."""
        if self.step == step:
            return f"final is the best checkpoint: validation {self.figure} {self.value:.4g}"
        if self.last == self.value:
            return f"best, of step {self.step}, and final have the same validation {self.figure}"
        worse = self.last - self.value
        share = f", {worse / abs(self.value):.1%}" if self.value else ""
        return (
            f"best, of step {self.step}, is better than final: validation {self.figure} "
            f"{self.value:.4g} instead of {self.last:.4g} ({worse:.2g} less{share})"
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs."""
        return {name: value for name, value in asdict(self).items() if name != "figure"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; checkpoints of version 0.1 hold only step and value."""
        self.step, self.value = state["step"], state["value"]
        self.last, self.waited = state.get("last", math.inf), state.get("waited", 0)
