"""`nextscale estimate`: parameters, arithmetic, memory and time, before anything is started."""

from jsonargparse import Namespace

from nextscale.cli.inference import add_device_argument, progress
from nextscale.cli.measuring import check_report, table, write_report
from nextscale.cli.options import Parser, add_config, add_dataclass, from_options
from nextscale.config.benchmark import EstimateConfig


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    add_dataclass(parser, EstimateConfig)
    add_device_argument(parser)


def run(options: Namespace) -> int:
    """Estimates and tells."""
    config = from_options(EstimateConfig, options)
    check_report(config.json)
    from nextscale.benchmark.estimate import estimate, runs
    from nextscale.devices import usable_device

    device = usable_device(options.device)
    with progress("estimating", runs(config), "rows") as advance:
        report = estimate(config, device, advance)
    if config.json:
        write_report(report, config.json)
    rows = [
        {
            "task": "sample" if row["task"] == "sample" else f"train {row['task']}",
            "precision": row["precision"],
            "batch": str(row["batch"]),
            "parameters": f"{row['parameters']:,}",
            "GFLOP an image": f"{row['flops_per_image'] / 1e9:.4g}",
            "memory, GiB": f"{row['memory_bytes'] / 2**30:.2f}",
            "seconds an image": f"{row['seconds_per_image']:.3g}",
        }
        for row in report["rows"]
    ]
    print(table(rows))
    print(f"\nseconds at {report['rate_gflops']:.4g} GFLOP/s")
    return 0
