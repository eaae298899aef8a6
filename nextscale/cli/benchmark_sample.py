"""`nextscale benchmark sample`: how fast a model draws, and in what memory."""

from jsonargparse import Namespace

from nextscale.cli.measuring import add_benchmark_arguments, measured, tell_left_out
from nextscale.config.speed import MODES, SampleConfig
from nextscale.console.options import Parser
from nextscale.console.report import conclude


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_benchmark_arguments(parser, SampleConfig)


def run(options: Namespace) -> int:
    """Measures and prints."""
    config, report = measured(options, SampleConfig, "drawing")
    if not config.modes:
        tell_left_out(report, "mode", MODES, "--modes")
    conclude(
        report,
        config.json,
        [
            {
                "mode": row["mode"],
                "batch": str(row["batch"]),
                "seconds an image": f"{row['seconds_per_image']:.4g}",
                "transformer": f"{row['transformer_seconds']:.4g}",
                "decoder": f"{row['decoder_seconds']:.4g}",
                "spread": f"{row['spread']:.0%}",
                "share of fp32 peak": f"{row['share_of_peak']:.0%}",
                "tokens as exact": (
                    f"{row['token_agreement']:.2%}" if "token_agreement" in row else ""
                ),
                "peak, GiB": f"{row['peak_memory_bytes'] / 2**30:.2f}" if config.memory else "",
            }
            for row in report["rows"]
        ],
    )
    return 0
