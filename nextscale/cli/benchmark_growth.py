"""`nextscale benchmark growth`: how attention's cost grows with the side of the token map."""

from jsonargparse import Namespace

from nextscale.cli.inference import add_device_argument, progress, usable_device
from nextscale.cli.measuring import check_report, conclude
from nextscale.cli.options import Parser, add_config, add_dataclass, from_options
from nextscale.config.benchmark import GrowthConfig


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    add_dataclass(parser, GrowthConfig)
    add_device_argument(parser)


def run(options: Namespace) -> int:
    """Counts, measures and tells."""
    config = from_options(GrowthConfig, options)
    check_report(config.json)
    import torch

    from nextscale.benchmark import growth

    device = torch.device(usable_device(options.device))

    with progress("drawing token maps", growth.runs(config), "runs") as advance:
        report = growth.measure(config, device, advance)
    counted, measured = max(config.sides), max(config.measured_sides)
    conclude(
        report,
        config.json,
        [
            {
                "method": row["method"],
                f"steps at {counted}": f"{row['steps'][counted]:,}",
                f"attention at {counted}, TFLOP": f"{row['attention_flops'][counted] / 1e12:.4g}",
                "exponent": f"{row['exponent']:.2f}",
                "paper's": str(row["paper_exponent"] or ""),
                f"seconds at {measured}": f"{row['measured_seconds'][measured]:.4g}",
                "measured exponent": f"{row['measured_exponent']:.2f}",
            }
            for row in report["rows"]
        ],
    )
    return 0
