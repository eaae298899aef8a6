"""How attention's cost grows with the side of the token map (VAR Sec. 3.3 and App. on complexity).

Next-token without a cache grows as side^6, with one as side^4; next-scale as side^4, in log2(side)
steps instead of side^2.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from nextscale.config.model import TransformerConfig
from nextscale.config.speed import GrowthConfig
from nextscale.cost.room import check_room
from nextscale.models.attention import Piece
from nextscale.models.trunk import Transformer
from nextscale.scales import Scales, length, spans
from nextscale.speed.timing import Parts, exponent, in_turn, machine, stopwatch

METHODS = ("next-token without cache", "next-token", "next-scale")
PAPER = dict(zip(METHODS, (6, None, 4), strict=True))  # exponents that the paper proves


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
