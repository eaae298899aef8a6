"""What the commands share that measure: where, and how they tell."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextscale.cli.inference import check_writable
from nextscale.errors import UsageError


def check_report(file: str) -> None:
    """Raises UsageError unless a report can be written there; empty is none."""
    if file and Path(file).is_dir():
        raise UsageError(f"{file} is a directory; give the name of a file")
    if file:
        check_writable(Path(file).parent, "file")


def write_report(report: Mapping[str, Any], file: str | Path) -> None:
    """Writes a report as JSON, whole or not at all."""
    from nextscale.files import write_text

    Path(file).parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def conclude(report: Mapping[str, Any], file: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes a benchmark's report, prints its rows as a table of Markdown and what it ran on."""
    if file:
        write_report(report, file)
    print(table(rows))
    print(
        f"\n{report['processor']}, {report['threads']} threads, fp32 peak "
        f"{report['fp32_peak_gflops']:.0f} GFLOP/s, torch {report['torch']}, {report['date']}"
    )


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of the same keys as a table of Markdown, its columns aligned."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in [padded[0], rule, *padded[1:]])
