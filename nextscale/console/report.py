"""Reports of what is measured: JSON in a file, a table on stdout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextscale.console.output import check_writable
from nextscale.console.tables import table
from nextscale.errors import UsageError
from nextscale.storage.files import check_no_link, to_json, write_text


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
    """Writes a measurement's report, prints its rows as a table of Markdown and what it ran on."""
    if file:
        write_report(report, file)
    print(table(rows))
    print(
        f"\n{report['processor']}, {report['threads']} threads, fp32 peak "
        f"{report['fp32_peak_gflops']:.0f} GFLOP/s, torch {report['torch']}, {report['date']}"
    )
