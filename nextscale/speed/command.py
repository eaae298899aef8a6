"""What the commands that measure speed share: their options, and how they get a report."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from jsonargparse import Namespace

from nextscale.console.messages import inform
from nextscale.console.options import (
    Parser,
    add_config,
    add_dataclass,
    add_device_argument,
    from_options,
)
from nextscale.console.progress import progress
from nextscale.console.report import check_report

T = TypeVar("T")


def add_speed_arguments(parser: Parser, kind: type) -> None:
    """Adds the options of a measurement: its dataclass, and where it runs."""
    add_config(parser)
    add_dataclass(parser, kind)
    add_device_argument(parser)


def measured(options: Namespace, kind: type[T], module: str) -> tuple[T, dict[str, Any]]:
    """Measures with a progress bar; returns the configuration and the report.

    Args:
        options: of `add_speed_arguments`.
        kind: the dataclass.
        module: that has `measure(config, device, advance)` and `runs(config, device)`, the number
            of times that it calls `advance`; it is imported when the options are known to be good.
    """
    config = from_options(kind, options)
    check_report(options.json)
    from nextscale.machine.devices import usable_device

    work, device = import_module(module), usable_device(options.device)
    with progress("measuring", work.runs(config, device), "runs") as advance:
        return config, work.measure(config, device, advance)


def report_left_out(
    report: Mapping[str, Any], column: str, known: Sequence[str], option: str
) -> None:
    """Tells what no row holds: the device has no instructions for it, or it is not installed."""
    missing = [value for value in known if all(row[column] != value for row in report["rows"])]
    if missing:
        inform(
            f"{', '.join(missing)} is left out: this device has no instructions for it and would "
            "emulate it slowly, or what it needs is not installed; "
            f"{option} {' '.join(known)} measures it anyway, or names what is missing"
        )
