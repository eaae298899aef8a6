"""`nextscale benchmark methods`: next-scale against next-token and diffusion on one trunk."""

from jsonargparse import Namespace

from nextscale.cli.measuring import add_benchmark_arguments, measured
from nextscale.config.speed import MethodsConfig
from nextscale.console.options import Parser
from nextscale.console.report import conclude


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_benchmark_arguments(parser, MethodsConfig)


def run(options: Namespace) -> int:
    """Measures and prints."""
    config, report = measured(options, MethodsConfig, "methods")
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
