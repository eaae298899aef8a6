"""Which validation of a run was best, and for how long none has been better."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Best:
    """The validations of a run so far, by the figure that should be small.

    Attributes:
        figure: its name.
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
        """Takes a validation; returns whether it is the best so far.

        Args:
            counts: whether patience counts it; not where a run ends between its validations.
        """
        self.last = value
        if value < self.value:
            self.step, self.value, self.waited = step, value, 0
            return True
        self.waited += counts
        return False

    def exhausted(self, patience: int) -> bool:
        """Whether `patience` validations in a row were no better; 0 never loses it."""
        return 0 < patience <= self.waited

    def standing(self) -> str:
        """What the last validation says of the best one."""
        if self.waited == 0 and self.last == self.value:
            return "best so far"
        return f"best is {self.value:.4g} at step {self.step}"

    def verdict(self, step: int) -> str:
        """Which of the best checkpoint and the final one, of `step`, is better, and by how much."""
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
        """What a continuation needs."""
        return {name: value for name, value in asdict(self).items() if name != "figure"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`; checkpoints of 0.1 have step and value alone."""
        self.step, self.value = state["step"], state["value"]
        self.last, self.waited = state.get("last", math.inf), state.get("waited", 0)
