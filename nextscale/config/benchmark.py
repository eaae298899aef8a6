"""What is measured by `nextscale benchmark`, and how often. No torch."""

from dataclasses import dataclass

from nextscale.config.model import TransformerConfig
from nextscale.errors import UsageError, check_range

MODES = ("exact", "compiled", "int8")


@dataclass(frozen=True)
class GrowthConfig:
    """`nextscale benchmark growth`.

    Attributes:
        sides: of token maps whose attention is counted; powers of two.
        measured_sides: of token maps that are drawn; powers of two.
        depth: of the trunk that is measured.
        width: of the trunk, whose heads are 64 wide.
        repeats: measurements; their median is told.
        json: also write the report there.
    """

    sides: tuple[int, ...] = (64, 128, 256, 512, 1024)
    measured_sides: tuple[int, ...] = (4, 8, 16, 32)
    depth: int = 2
    width: int = 256
    repeats: int = 3
    json: str = ""

    def __post_init__(self) -> None:
        check_range(self, "repeats", 1)
        TransformerConfig(depth=self.depth, width=self.width)
        for side in (*self.sides, *self.measured_sides):
            if side < 1 or side & (side - 1):
                raise UsageError(f"side {side} is no power of two; scales double up to it")
        for name, sides in (("sides", self.sides), ("measured_sides", self.measured_sides)):
            if len(set(sides)) < 2:
                raise UsageError(f"{name} holds one size; an exponent needs two or more")


@dataclass(frozen=True)
class SampleConfig:
    """`nextscale benchmark sample`.

    Attributes:
        model: as `nextscale sample` takes it.
        random_weights: of the model's shape instead of its own; what takes time is the same.
        modes: ways of drawing: exact, compiled (torch.compile), int8 (compiled too).
        batch: images drawn at once.
        repeats: measurements of each row; their median is told.
        memory: also measure peak memory, each row in a process of its own.
        json: also write the report there.
    """

    model: str = "fashion-mnist"
    random_weights: bool = False
    modes: tuple[str, ...] = MODES
    batch: tuple[int, ...] = (1, 8)
    repeats: int = 5
    memory: bool = True
    json: str = ""

    def __post_init__(self) -> None:
        check_range(self, "repeats", 1)
        unknown = [mode for mode in self.modes if mode not in MODES]
        if unknown or not self.modes:
            raise UsageError(f"modes are {self.modes}; known: {', '.join(MODES)}")
        if not self.batch or min(self.batch) < 1:
            raise UsageError(f"batch is {self.batch}; give sizes of at least 1")
