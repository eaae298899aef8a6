"""The history of a run as its log records it: curves by name, for reports and hints."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

Point = tuple[float, float]  # optimizer steps done, value
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class History:
    """The log of a run, sorted by kind of line.

    Attributes:
        options: of the run by dotted name, as on the command line.
        start: the last line that records a start.
        steps: lines of training steps.
        validations: lines of validations.
        finished: the line that records its end; empty before.
    """

    options: Entry = field(default_factory=dict)
    start: Entry = field(default_factory=dict)
    steps: tuple[Entry, ...] = ()
    validations: tuple[Entry, ...] = ()
    finished: Entry = field(default_factory=dict)

    @classmethod
    def of(cls, log: Iterable[Entry], options: Entry) -> "History":
        """Builds the history of a log.

        Args:
            log: lines in their order.
        """
        lines: dict[Any, list[Entry]] = {}
        for entry in log:
            lines.setdefault(entry.get("event"), []).append(entry)
        steps, validations = tuple(lines.get(None, ())), tuple(lines.get("validation", ()))
        step = max((step_of(entry) for entry in (*steps, *validations)), default=0)
        ends = [entry for entry in lines.get("finished", ()) if step_of(entry) >= step]
        start = lines.get("start", [{}])[-1]
        return cls(options, start, steps, validations, ends[-1] if ends else {})

    @property
    def figure(self) -> str:
        """Name of the validation figure that judges the run; smaller is better."""
        return str(self.start.get("judged_by", "loss"))

    @property
    def done(self) -> int:
        """Number of completed optimizer steps."""
        return max(map(step_of, (*self.steps, *self.validations)), default=0)

    @property
    def best(self) -> Point | None:
        """Step and figure of the best validation."""
        return min(curve(self.validations, self.figure), key=lambda point: point[1], default=None)

    def last(self, name: str) -> Any:
        """A figure of the last validation; None if it has none."""
        return self.validations[-1].get(name) if self.validations else None


def curve(entries: Iterable[Entry], name: str, scale: int | None = None) -> list[Point]:
    """A figure over the steps, without the entries that lack it.

    Args:
        scale: index into a figure that has a value per scale.
    """
    found = []
    for entry in entries:
        value = entry.get(name)
        if scale is not None:
            value = value[scale] if isinstance(value, list) and scale < len(value) else None
        if is_number(value):
            found.append((float(step_of(entry)), float(value)))
    return found


def step_of(entry: Entry) -> int:
    """Number of completed optimizer steps at a line of the log."""
    step = entry.get("step", 0)
    return int(step) if is_number(step) else 0


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
