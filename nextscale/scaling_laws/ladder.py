"""Trains the models of a ladder, each by `nextscale train var` in a process of its own.

Any number of ladders may work on one directory: a lock tells which run is taken.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from nextscale.config.run import VarTraining
from nextscale.config.scaling import LadderConfig
from nextscale.errors import UsageError
from nextscale.files import write_text

Train = Callable[[list[str]], int]


def run_to_its_end(command: list[str]) -> int:
    """A program's exit code; at Ctrl-C, which reaches it too, it is given the time to save."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


def climb(
    config: LadderConfig, tell: Callable[[str], None], train: Train = run_to_its_end
) -> dict[str, str]:
    """Trains every run that is neither finished nor taken by another process.

    Args:
        config: the ladder.
        tell: of every run that begins.
        train: runs a command and gives its exit code.

    Returns:
        runs that are not finished and why, by name.

    Raises:
        UsageError: if a training cannot start, as the others would not.
        KeyboardInterrupt: if a run was stopped by a signal; it has saved.
    """
    folder, missing = Path(config.out), {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, training in config.runs().items():
        place = folder / name
        if finished(place):
            continue
        lock = FileLock(folder / f"{name}.lock")
        try:
            with lock.acquire(timeout=0):
                if finished(place):
                    continue
                tell(f"training {name}")
                code = train(command_of(training, place, folder))
        except Timeout:
            missing[name] = "another process trains it"
            continue
        if code > 128 or code < 0:
            raise KeyboardInterrupt
        if code and not (place / "log.jsonl").exists():
            raise UsageError(f"{name} could not start and has told why; mend it and run this again")
        if code:
            missing[name] = f"its training ended with code {code}"
    return missing


def finished(place: Path) -> bool:
    """Whether a run has its final model."""
    return (place / "final/config.json").is_file()


def command_of(training: VarTraining, place: Path, folder: Path) -> list[str]:
    """The command of a run, whose options are written beside its directory."""
    given = replace(
        training, out=str(place), cache=training.cache or str(folder / "tokens"), resume=True
    )
    file = folder / f"{place.name}.yaml"
    write_text(file, yaml.safe_dump(plain(asdict(given)), sort_keys=False))
    return [sys.executable, "-m", "nextscale", "train", "var", "--config", str(file)]


def plain(value: Any) -> Any:
    """Values as YAML holds them: tuples become lists."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
