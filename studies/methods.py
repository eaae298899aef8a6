"""Next-scale, next-token and diffusion side by side: one trunk, 16x16 tokens, no guidance.

Both transformers keep keys and values, draw tokens and look up codes; nothing is decoded. The
diffusion peer is diffusers' `DiTTransformer2DModel` of the same depth and width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jsonargparse import Namespace
from torch import nn

from nextscale.config.architecture import RELEASED_256, TokenizerConfig, TransformerConfig
from nextscale.config.speed import MOST_AT_ONCE, MOST_REPEATS
from nextscale.console.options import Parser
from nextscale.console.report import conclude
from nextscale.cost.flops import parameters
from nextscale.cost.room import check_room
from nextscale.errors import UsageError, check_range
from nextscale.generation.generate import generate, last_state
from nextscale.machine.heap import keep_freed_memory
from nextscale.models.model import build_model
from nextscale.scales import Scales, length, spans
from nextscale.speed.command import add_speed_arguments, measured
from nextscale.speed.timing import Parts, in_turn, machine, stopwatch
from nextscale.tokenizer.tokenizer import Tokenizer

METHODS = ("next-scale", "next-token", "diffusion")
SCALES: dict[str, Scales] = {"next-scale": RELEASED_256, "next-token": RELEASED_256[-1:]}
FLOAT = 4  # bytes


@dataclass(frozen=True)
class MethodsConfig:
    """`python -m studies methods`.

    Attributes:
        depth: of the trunk.
        width: of the trunk, whose heads are 64 wide; 0 is 64 * depth.
        batch: images drawn at once.
        diffusion_steps: of the diffusion peer.
        timed_steps: of them, which are measured and stand for all.
        repeats: measurements of each method; the median is reported.
        json: also write the report there.
    """

    depth: int = 16
    width: int = 0
    batch: int = 1
    diffusion_steps: int = 250
    timed_steps: int = 5
    repeats: int = 3
    json: str = ""

    def __post_init__(self) -> None:
        check_range(self, "batch", 1, MOST_AT_ONCE)
        check_range(self, "diffusion_steps timed_steps repeats", 1, MOST_REPEATS)
        if self.width % 64:
            raise UsageError(f"width is {self.width}; it must be a multiple of 64")
        shape = TransformerConfig(depth=self.depth, width=self.width)
        object.__setattr__(self, "width", shape.width)
        if self.timed_steps > self.diffusion_steps:
            raise UsageError(f"timed_steps is {self.timed_steps}; there are {self.diffusion_steps}")


def drawing(
    method: str, config: MethodsConfig, device: torch.device
) -> tuple[Callable[[], Parts], int]:
    """A function that draws token maps and returns the seconds; the weights read at a step."""
    order = "scales" if method == "next-scale" else "raster"
    shape = TransformerConfig(depth=config.depth, width=config.width, order=order)
    small = TokenizerConfig(scales=SCALES[method], width=32)  # only its quantizer is used
    check_room(lambda: build_model(shape, small), "this trunk", copies=1)
    with device:
        tokenizer = Tokenizer(small).eval()
        model = build_model(shape, small).eval()
    labels = torch.zeros(config.batch, dtype=torch.long, device=device)

    def run() -> Parts:
        begin = stopwatch(device)
        last_state(generate(model, tokenizer, labels))
        return {"seconds": (stopwatch(device) - begin) / config.batch}

    modulation = [m for n, m in model.named_modules() if n.endswith("modulation")]
    once = parameters(model.condition) + sum(map(parameters, modulation))
    return run, parameters(model) - once


def denoising(config: MethodsConfig, device: torch.device) -> tuple[Callable[[], Parts], int]:
    """As `drawing`, for diffusion; `timed_steps` stand for all."""
    from diffusers import DiTTransformer2DModel

    with device:
        model = DiTTransformer2DModel(
            num_attention_heads=config.width // 64,
            attention_head_dim=64,
            num_layers=config.depth,
            in_channels=4,
            out_channels=8,
            sample_size=32,  # halved by patches: 16x16 tokens, as the others
        ).eval()
    noise = torch.randn(config.batch, 4, 32, 32, device=device)
    labels = torch.zeros(config.batch, dtype=torch.long, device=device)

    @torch.inference_mode()
    def run() -> Parts:
        begin = stopwatch(device)
        for step in range(config.timed_steps):
            model(noise, timestep=torch.full_like(labels, step), class_labels=labels)
        share = config.timed_steps / config.diffusion_steps
        return {"seconds": (stopwatch(device) - begin) / share / config.batch}

    tables = [part for part in model.modules() if isinstance(part, nn.Embedding)]  # a row is read
    return run, parameters(model) - sum(map(parameters, tables))


def cached(method: str, config: MethodsConfig) -> int:
    """Keys and values read while one map is drawn, in numbers."""
    if method == "diffusion":
        return 0
    steps = spans(SCALES[method])
    if method == "next-token":
        steps = [(i, i + 1) for i in range(length(SCALES[method]))]
    return sum(2 * config.depth * config.width * end for _, end in steps)


def steps_of(method: str, config: MethodsConfig) -> int:
    """Sequential passes of the network."""
    if method == "diffusion":
        return config.diffusion_steps
    scales = SCALES[method]
    return len(scales) if method == "next-scale" else length(scales)


def measure(
    config: MethodsConfig, device: torch.device, advance: Callable[[int], None]
) -> dict[str, Any]:
    """The report; its `rows` hold a method each, with ratios to next-scale.

    Args:
        advance: receives 1 after each run, of `runs(config)` runs.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    opened = {method: drawing(method, config, device) for method in SCALES}
    opened["diffusion"] = denoising(config, device)
    found = in_turn({method: run for method, (run, _) in opened.items()}, config.repeats, advance)
    rows: list[dict[str, Any]] = []
    for method in METHODS:
        steps, took = steps_of(method, config), found[method]["seconds"]
        read = FLOAT * (steps * opened[method][1] / config.batch + cached(method, config))
        row = {
            "method": method,
            "steps": steps,
            "bytes_read_per_image": read,
            "seconds_per_image": took.median,
            "spread": took.spread,
        }
        first = rows[0] if rows else row
        row["ratios"] = {
            name: row[name] / first[name]
            for name in ("steps", "bytes_read_per_image", "seconds_per_image")
        }
        rows.append(row)
    shape = {name: value for name, value in vars(config).items() if name != "json"}
    return {**shape, "rows": rows, **machine(device)}


def runs(config: MethodsConfig, device: torch.device) -> int:
    """Number of runs of `measure`."""
    del device
    return len(METHODS) * (config.repeats + 1)


def add_arguments(parser: Parser) -> None:
    """Adds the options of `methods`."""
    add_speed_arguments(parser, MethodsConfig)


def run(options: Namespace) -> int:
    """Measures and prints a table."""
    config, report = measured(options, MethodsConfig, __name__)
    conclude(
        report,
        config.json,
        [
            {
                "method": row["method"],
                "steps": f"{row['steps']} ({row['ratios']['steps']:.3g}x)",
                "GB read an image": f"{row['bytes_read_per_image'] / 1e9:.4g} "
                f"({row['ratios']['bytes_read_per_image']:.3g}x)",
                "seconds an image": f"{row['seconds_per_image']:.4g} "
                f"({row['ratios']['seconds_per_image']:.3g}x)",
                "spread": f"{row['spread']:.0%}",
            }
            for row in report["rows"]
        ],
    )
    return 0
