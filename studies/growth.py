"""How attention's cost grows with the side of the token map (VAR Sec. 3.3 and App. on complexity).

Next-token without a cache grows as side^6, with one as side^4; next-scale as side^4, in log2(side)
steps instead of side^2.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from nextscale.config.architecture import TransformerConfig
from nextscale.config.limits import LARGEST_WIDTH
from nextscale.config.speed import MOST_REPEATS
from nextscale.console.options import Parser
from nextscale.console.report import conclude
from nextscale.cost.room import check_room
from nextscale.errors import UsageError, check_range, shown
from nextscale.models.attention import Piece
from nextscale.models.trunk import Transformer
from nextscale.scales import LARGEST_SIDE, Scales, length, spans
from nextscale.speed.command import add_speed_arguments, measured
from nextscale.speed.timing import Parts, in_turn, machine, stopwatch

METHODS = ("next-token without cache", "next-token", "next-scale")
PAPER = dict(zip(METHODS, (6, None, 4), strict=True))  # exponents that the paper proves


@dataclass(frozen=True)
class GrowthConfig:
    """`python -m studies growth`.

    Attributes:
        sides: of token maps whose attention is counted; powers of two.
        measured_sides: of token maps that are drawn; powers of two.
        depth: of the trunk that is measured.
        width: of the trunk, whose heads are 64 wide.
        repeats: measurements; the median is reported.
        json: also write the report there.
    """

    sides: tuple[int, ...] = (64, 128, 256, 512, 1024)
    measured_sides: tuple[int, ...] = (4, 8, 16, 32)
    depth: int = 2
    width: int = 256
    repeats: int = 3
    json: str = ""

    def __post_init__(self) -> None:
        check_range(self, "repeats", 1, MOST_REPEATS)
        TransformerConfig(depth=self.depth, width=self.width)
        check_range(
            self, "width", 1, LARGEST_WIDTH
        )  # which a transformer would take for 64 * depth
        for side in (*self.sides, *self.measured_sides):
            if not 1 <= side <= LARGEST_SIDE or side & (side - 1):
                raise UsageError(
                    f"side {shown(side)} is no power of two up to {LARGEST_SIDE}; scales double"
                )
        for name, sides in (("sides", self.sides), ("measured_sides", self.measured_sides)):
            if len(set(sides)) < 2:
                raise UsageError(f"{name} holds one size; an exponent needs two or more")


def doubling(side: int) -> Scales:
    """Square scales of sides 1, 2, 4 up to a power of two."""
    return tuple((1 << k, 1 << k) for k in range(side.bit_length()))


def attention_pairs(method: str, side: int) -> int:
    """Pairs of a query and a key that drawing a token map of this side looks at."""
    tokens = side * side
    if method == "next-token without cache":  # every step computes all tokens again
        return tokens * (tokens + 1) * (tokens + 2) // 6
    if method == "next-token":
        return tokens * (tokens + 1) // 2
    return sum((end - begin) * end for begin, end in spans(doubling(side)))


def steps_of(method: str, side: int) -> int:
    """Sequential evaluations of the network."""
    return len(doubling(side)) if method == "next-scale" else side * side


def drawing(trunk: Transformer, method: str, side: int) -> Iterator[tuple[Tensor, list[Piece]]]:
    """What the trunk is given at every step: tokens (1, l, D), and how they see each other."""
    scales = doubling(side)
    tokens = length(scales) if method == "next-scale" else side * side
    weight = trunk.typed_blocks()[0].mlp.expand.weight
    x = torch.randn(1, tokens, trunk.config.width, generator=torch.Generator().manual_seed(0))
    x = x.to(weight)
    if method == "next-scale":
        for begin, end in spans(scales):
            yield x[:, begin:end], [(0, end - begin, None)]
    elif method == "next-token":
        for i in range(tokens):
            yield x[:, i : i + 1], [(0, 1, None)]
    else:
        before = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).tril()
        for i in range(1, tokens + 1):
            yield x[:, :i], [(0, i, before[:i, :i])]


def drawn(trunk: Transformer, method: str, side: int) -> Callable[[], Parts]:
    """Runs the trunk as drawing one token map would, and returns the seconds."""
    weight = trunk.typed_blocks()[0].mlp.expand.weight
    condition = torch.randn(1, trunk.config.width, generator=torch.Generator().manual_seed(1))
    steps = list(drawing(trunk, method, side))

    @torch.inference_mode()
    def run() -> Parts:
        begin = stopwatch(weight.device)
        modulations = trunk.modulations(condition.to(weight))
        cache = None
        if method != "next-token without cache":
            cache = trunk.new_cache(1, sum(x.shape[1] for x, _ in steps))
        for x, pieces in steps:
            trunk(x, modulations, pieces, cache)
        return {"seconds": stopwatch(weight.device) - begin}

    return run


def exponent(sizes: Sequence[float], values: Iterable[float]) -> float:
    """p of the power law values = c · sizes^p, by least squares of the logarithms."""
    x = torch.tensor(sizes, dtype=torch.double).log()
    y = torch.tensor(list(values), dtype=torch.double).log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def measure(
    config: GrowthConfig, device: torch.device, advance: Callable[[int], None]
) -> dict[str, Any]:
    """The report: counted and measured growth, with fitted exponents.

    Args:
        advance: receives 1 after each run, of `runs(config)` runs.
    """
    torch.manual_seed(0)
    shape = TransformerConfig(depth=config.depth, width=config.width)
    check_room(lambda: Transformer(shape), "this trunk", copies=1)
    trunk = Transformer(shape).to(device).eval()
    trunk.initialize()
    each = [(method, side) for side in config.measured_sides for method in METHODS]
    found = in_turn({key: drawn(trunk, *key) for key in each}, config.repeats, advance)
    width = config.depth * config.width
    rows = []
    for method in METHODS:
        flops = {side: 4 * width * attention_pairs(method, side) for side in config.sides}
        seconds = {side: found[method, side]["seconds"] for side in config.measured_sides}
        medians = {side: timing.median for side, timing in seconds.items()}
        rows.append(
            {
                "method": method,
                "steps": {side: steps_of(method, side) for side in config.sides},
                "attention_flops": flops,
                "exponent": exponent(config.sides, flops.values()),
                "paper_exponent": PAPER[method],
                "measured_seconds": medians,
                "spread": {side: timing.spread for side, timing in seconds.items()},
                "measured_exponent": exponent(config.measured_sides, medians.values()),
            }
        )
    return {"rows": rows, "depth": config.depth, "width": config.width, **machine(device)}


def runs(config: GrowthConfig, device: torch.device) -> int:
    """Number of runs of `measure`."""
    del device
    return len(config.measured_sides) * len(METHODS) * (config.repeats + 1)


def add_arguments(parser: Parser) -> None:
    """Adds the options of `growth`."""
    add_speed_arguments(parser, GrowthConfig)


def run(options: Namespace) -> int:
    """Counts, measures and prints a table."""
    config, report = measured(options, GrowthConfig, __name__)
    side, drawn = max(config.sides), max(config.measured_sides)
    conclude(
        report,
        config.json,
        [
            {
                "method": row["method"],
                f"steps at {side}": f"{row['steps'][side]:,}",
                f"attention at {side}, TFLOP": f"{row['attention_flops'][side] / 1e12:.4g}",
                "exponent": f"{row['exponent']:.2f}",
                "paper's": str(row["paper_exponent"] or ""),
                f"seconds at {drawn}": f"{row['measured_seconds'][drawn]:.4g}",
                "measured exponent": f"{row['measured_exponent']:.2f}",
            }
            for row in report["rows"]
        ],
    )
    return 0
