"""`nextscale benchmark growth`: how attention's cost grows with the side of the token map."""

from jsonargparse import Namespace

from nextscale.cli.measuring import add_benchmark_arguments, measured
from nextscale.config.speed import GrowthConfig
from nextscale.console.options import Parser
from nextscale.console.report import conclude


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_benchmark_arguments(parser, GrowthConfig)


def run(options: Namespace) -> int:
    """Counts, measures and prints."""
    config, report = measured(options, GrowthConfig, "growth")
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
