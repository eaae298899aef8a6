"""`nextscale benchmark sample`: how fast a model draws, and in what memory."""

from jsonargparse import Namespace

from nextscale.cli.inference import add_device_argument, progress, usable_device
from nextscale.cli.measuring import check_report, conclude
from nextscale.cli.options import Parser, add_config, add_dataclass, from_options
from nextscale.config.benchmark import SampleConfig


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    add_dataclass(parser, SampleConfig)
    add_device_argument(parser)


def run(options: Namespace) -> int:
    """Measures and tells."""
    config = from_options(SampleConfig, options)
    check_report(config.json)
    import torch

    from nextscale.benchmark import sampling

    device = torch.device(usable_device(options.device))
    with progress("drawing", sampling.runs(config), "runs") as advance:
        report = sampling.measure(config, device, advance)
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
                "share of peak": f"{row['share_of_peak']:.0%}",
                "peak, GiB": f"{row['peak_memory_bytes'] / 2**30:.2f}" if config.memory else "",
            }
            for row in report["rows"]
        ],
    )
    return 0
