"""What the commands share that measure: device, precisions and reports."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import Namespace

from nextscale.cli.inference import (
    add_device_argument,
    check_writable,
    progress,
)
from nextscale.cli.options import Parser, add_config, add_dataclass, from_options, tell
from nextscale.errors import UsageError
from nextscale.files import check_no_link, to_json, write_text
from nextscale.tables import table

T = TypeVar("T")


def add_benchmark_arguments(parser: Parser, kind: type) -> None:
    """Adds the options of a benchmark: its dataclass, and where it runs."""
    add_config(parser)
    add_dataclass(parser, kind)
    add_device_argument(parser)


def measured(options: Namespace, kind: type[T], name: str) -> tuple[T, dict[str, Any]]:
    """Runs `measure` of `nextscale.benchmark.NAME`; gives its configuration and its report."""
    config = from_options(kind, options)
    check_report(options.json)
    from nextscale.devices import usable_device

    benchmark = import_module(f"nextscale.benchmark.{name}")
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


def check_report(file: str, *inputs: str) -> None:
    """Raises UsageError unless a report can be written there; empty is none.

    Args:
        inputs: files that the command reads, none of which it may replace.
    """
    if not file:
        return
    if Path(file).is_dir():
        raise UsageError(f"{file} is a directory; give the name of a file")
    check_no_link(Path(file))
    check_writable(Path(file).parent, "file")
    if Path(file).resolve() in [Path(name).resolve() for name in inputs if name]:
        raise UsageError(f"{file} is read by this command and would be replaced; give another name")


def write_report(report: Mapping[str, Any], file: str | Path) -> None:
    """Writes a report as JSON, whole or not at all."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    write_text(file, to_json(report))


def conclude(report: Mapping[str, Any], file: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes a benchmark's report, prints its rows as a table of Markdown and what it ran on."""
    if file:
        write_report(report, file)
    print(table(rows))
    print(
        f"\n{report['processor']}, {report['threads']} threads, fp32 peak "
        f"{report['fp32_peak_gflops']:.0f} GFLOP/s, torch {report['torch']}, {report['date']}"
    )
