"""Which checkpoint a run's directory stands for, where a model or a classifier is asked for."""

import math
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from nextscale.errors import UsageError, escaped
from nextscale.storage.files import parse_json, read_text

NAME_SHOWN = 40  # characters of a figure's name that a message shows


def best_of(folder: Path, weights: str) -> Path:
    """The best checkpoint of a run's directory, which a line names; any other folder as it is.

    A run holds `best/` from its first validation on, `final/` at its end, and `checkpoints/`.

    Args:
        weights: file that every checkpoint of this kind holds.

    Raises:
        UsageError: if that checkpoint is a link to somewhere else.
    """
    if not (folder / "checkpoints").is_dir() or (folder / weights).exists():
        return folder
    steps = sorted((folder / "checkpoints").glob("step-*"), reverse=True)
    places = {"best": "best checkpoint", "final": "finished model"}
    places |= {f"checkpoints/{step.name}": "newest checkpoint" for step in steps}
    for name, what in places.items():
        if not (folder / name / weights).is_file():
            continue
        for file in (folder / name).iterdir():
            if not file.resolve().is_relative_to(folder.resolve()):
                raise UsageError(f"{file} is a link out of the run {folder}; give what it leads to")
        notice(f"{folder} is a run; its {what}, {name}{judged(folder, name)}, is loaded")
        return folder / name
    return folder


def judged(folder: Path, name: str) -> str:
    """Step and figure of a run's checkpoint, such as `, of step 40 (validation loss 3.21)`.

    Args:
        folder: of the run.
        name: of the checkpoint in it.

    Returns:
        text for a message; empty where the run's log, which may come from anyone, does not say it.
    """
    figure, found = "loss", []
    try:
        lines = read_text(folder / "log.jsonl").splitlines()
    except UsageError:
        return ""
    for line in lines:
        with suppress(ValueError, AttributeError):  # cut off by a kill; no table
            entry = parse_json(line)
            if entry.get("event") == "start":
                figure = str(entry.get("judged_by", figure))[:NAME_SHOWN]
            value, step = entry.get(figure), entry.get("step")
            known = type(value) is float and math.isfinite(value) and type(step) is int
            if known and entry.get("event") == "validation":
                found.append((value, step))
    if name.startswith("checkpoints"):
        found = [(value, step) for value, step in found if name.endswith(f"-{step:08d}")]
    if not found:
        return ""
    value, step = min(found) if name == "best" else found[-1]
    return f", of step {step} (validation {figure} {value:.4g})"


@cache
def notice(line: str) -> None:
    """Prints a line once on stderr; where several processes run, one speaks for all."""
    if os.environ.get("RANK", "0") == "0":
        print(escaped(line), file=sys.stderr, flush=True)
