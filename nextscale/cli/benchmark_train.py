"""`nextscale benchmark train`: how fast both stages train, and in what memory."""

from jsonargparse import Namespace

from nextscale.cli.measuring import add_benchmark_arguments, measured, tell_left_out
from nextscale.config.speed import PRECISIONS, TrainConfig
from nextscale.console.options import Parser
from nextscale.console.report import conclude


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_benchmark_arguments(parser, TrainConfig)


def run(options: Namespace) -> int:
    """Measures and prints."""
    config, report = measured(options, TrainConfig, "steps")
    if not config.precision:
        tell_left_out(report, "precision", PRECISIONS, "--precision")
    conclude(
        report,
        config.json,
        [
            {
                "stage": row["stage"],
                "precision": row["precision"],
                "batch": str(row["batch"]),
                "images/s": f"{row['images_per_second']:.4g}",
                "seconds a step": f"{row['seconds_per_step']:.4g}",
                "spread": f"{row['spread']:.0%}",
                "share of fp32 peak": f"{row['share_of_peak']:.0%}",
                "peak, GiB": f"{row['peak_memory_bytes'] / 2**30:.2f}" if config.memory else "",
            }
            for row in report["rows"]
        ],
    )
    return 0
