"""Trains the models of a ladder, each by `nextscale train var` in a process of its own.

Any number of ladders may work on one directory: a lock marks a run that is taken.
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from nextscale.config.run import VarTraining
from nextscale.config.scaling import LadderConfig
from nextscale.errors import UsageError
from nextscale.storage.documents import parse_document, read_document
from nextscale.storage.files import write_text
from nextscale.training.launch import STOPPED, finished, run_to_its_end
from nextscale.training.run_options import check_options

Train = Callable[[list[str]], int]


@dataclass
class Missing:
    """Runs that are not finished.

    Attributes:
        taken: by another process.
        failed: with the exit codes of their trainings, by name.
    """

    taken: list[str] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)


def climb(
    config: LadderConfig, inform: Callable[[str], None], train: Train = run_to_its_end
) -> Missing:
    """Trains every run that is neither finished nor taken by another process.

    Args:
        config: the ladder.
        inform: called with a line for every run that begins.
        train: runs a command and gives its exit code.

    Raises:
        UsageError: if a run there has another configuration, or a training cannot start, as the
            others would not.
        KeyboardInterrupt: if a run was asked to stop; it has saved.
    """
    folder, missing = Path(config.out), Missing()
    folder.mkdir(parents=True, exist_ok=True)
    for name, training in config.runs().items():
        place = folder / name
        given = placed(training, place, folder)
        if finished(place):
            check_asked(given)
            continue
        lock = FileLock(folder / f"{name}.lock")
        try:
            with lock.acquire(timeout=0):
                if finished(place):
                    continue
                inform(f"training {name}")
                code = train(command_of(given))
        except Timeout:
            missing.taken.append(name)
            continue
        if code in STOPPED:
            raise KeyboardInterrupt
        if code and not (place / "log.jsonl").exists():
            raise UsageError(
                f"{name} could not start and has printed why; mend it and run this again"
            )
        if code:
            missing.failed[name] = code
    return missing


def placed(training: VarTraining, place: Path, folder: Path) -> VarTraining:
    """A run's training in its directory, on the tokens that all share."""
    tokens = training.cache or str(folder / "tokens")
    return replace(training, out=str(place), cache=tokens, resume=True)


def options_file(given: VarTraining) -> Path:
    """Where the options of a run are written, beside its directory."""
    return Path(f"{given.out}.yaml")


def check_asked(given: VarTraining) -> None:
    """Raises UsageError if a finished run was asked for with options that compute another one."""
    file = options_file(given)
    if file.is_file():
        asked = parse_document(read_document(file), file)
        check_options(asked, plain(asdict(given)), given, Path(given.out), may_lengthen=False)


def command_of(given: VarTraining) -> list[str]:
    """The command of a run, whose options are written to a file."""
    file = options_file(given)
    write_text(file, yaml.safe_dump(plain(asdict(given)), sort_keys=False))
    return [sys.executable, "-m", "nextscale", "train", "var", "--config", str(file)]


def plain(value: Any) -> Any:
    """Values as YAML holds them: tuples become lists."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
