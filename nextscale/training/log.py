"""Reads a run's `log.jsonl`: one JSON object per line. The file is not trusted."""

from pathlib import Path
from typing import Any

from nextscale.errors import UsageError, shown
from nextscale.storage.files import parse_json, read_text

LARGEST_STEP = 10**12


def read_log(file: Path) -> list[dict[str, Any]]:
    """The entries of a log, without lines that are incomplete because the run was killed.

    Raises:
        UsageError: if a line is JSON but no object, or if its step is not a valid number.
    """
    entries = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        try:
            entry = parse_json(line)
        except ValueError:
            continue  # the process was killed while writing this line
        if not isinstance(entry, dict):
            raise UsageError(f"{file}, line {number}, is {shown(entry)}; a table of keys is needed")
        step = entry.get("step", 0)
        if not isinstance(step, int) or not 0 <= step <= LARGEST_STEP:
            raise UsageError(
                f"{file}, line {number}: step is {shown(step)}; it must be a number from 0 to "
                f"{LARGEST_STEP}"
            )
        entries.append(entry)
    return entries
