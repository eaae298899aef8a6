"""What the commands share that measure: device, precisions and reports."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from jsonargparse import Namespace

from nextscale.cli.inference import add_device_argument
from nextscale.console.messages import tell
from nextscale.console.options import Parser, add_config, add_dataclass, from_options
from nextscale.console.progress import progress
from nextscale.console.report import check_report

T = TypeVar("T")


def add_benchmark_arguments(parser: Parser, kind: type) -> None:
    """Adds the options of a benchmark: its dataclass, and where it runs."""
    add_config(parser)
    add_dataclass(parser, kind)
    add_device_argument(parser)


def measured(options: Namespace, kind: type[T], name: str) -> tuple[T, dict[str, Any]]:
    """Runs `measure` of `nextscale.speed.NAME`; gives its configuration and its report."""
    config = from_options(kind, options)
    check_report(options.json)
    from nextscale.machine.devices import usable_device

    benchmark = import_module(f"nextscale.speed.{name}")
    device = usable_device(options.device)
    with progress("measuring", benchmark.runs(config, device), "runs") as advance:
        return config, benchmark.measure(config, device, advance)


def tell_left_out(
    report: Mapping[str, Any], column: str, known: Sequence[str], option: str
) -> None:
    """Tells what no row holds: the device has no instructions for it, or it is not installed."""
    missing = [value for value in known if all(row[column] != value for row in report["rows"])]
    if missing:
        tell(
            f"{', '.join(missing)} is left out: this device has no instructions for it and would "
            "emulate it slowly, or what it needs is not installed; "
            f"{option} {' '.join(known)} measures it anyway, or names what is missing"
        )
