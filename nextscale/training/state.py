"""A run's directory: its configuration, log and checkpoints, and how a run finds its way back.

.lock                  held by the process that trains here
config.json            the command's whole configuration
log.jsonl              one line an event
checkpoints/step-N/    a checkpoint directory (see `checkpoint`) and `training.pt` beside it
best/                  the model that validated best so far, stored as the finished one
final/                 the finished model
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from nextscale.config.run import TrainingConfig
from nextscale.errors import UsageError
from nextscale.files import read_json, replacing, write_text
from nextscale.training.options import check_command

# Options that may differ between a run and its continuation: they do not change what is computed.
FREE = (
    "out", "resume", "keep", "log_every", "max_steps", "validate_every", "save_every",
    "validation_images", "cache", "data.workers", "patience", "planned_epochs",
)  # fmt: skip
DIFFERENCES_SHOWN = 3
LOCK = ".lock"
FAILED = '"event": "failed"'  # in the last line of such a run's log


class RunDirectory:
    """One run on disk. Only the main process writes.

    Args:
        path: the directory.
        writes: whether this process is the one that writes.
    """

    def __init__(self, path: Path, writes: bool) -> None:
        self.path, self.writes = path, writes
        self.checkpoints = path / "checkpoints"
        self.lock = FileLock(path / LOCK)
        self.begun = False
        self.notes: list[str] = []  # on a run that is continued

    def check(self, command: str, config: TrainingConfig) -> dict[str, Any]:
        """The configuration as it is written, if the run may start or continue here.

        It records also the epochs that the run was planned with, which a continuation may exceed.
        A run that failed before its first checkpoint holds nothing, so any other takes its place.

        Raises:
            UsageError: if the directory holds another configuration, a run and no `resume`, or
                something else.
        """
        planned = {"command": command, "planned_epochs": config.epochs}
        wanted = planned | json.loads(json.dumps(asdict(config)))
        file = self.path / "config.json"
        if file.exists():
            if not self.failed_at_once():
                found = read_json(file)
                self.compare(found, wanted, config)
                if self.saved():
                    wanted["planned_epochs"] = planned_epochs(found, file)
                    self.notes = changes(found, config)
        elif self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; give a directory for the run")
        elif self.path.exists() and any(inner.name != LOCK for inner in self.path.iterdir()):
            raise UsageError(f"{self.path} is not empty and holds no run; give another directory")
        return wanted

    def open(
        self, command: str, config: TrainingConfig, wait: Callable[[], None] = lambda: None
    ) -> Path | None:
        """Starts or continues a run; gives the checkpoint to continue from, None for a fresh start.

        Args:
            wait: a barrier over the processes; all have checked before one writes.

        Raises:
            UsageError: as `check`, and if another process trains here.
        """
        wanted = self.check(command, config)
        wait()
        if self.writes:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self.lock.acquire(timeout=0)
            except Timeout as error:
                raise UsageError(
                    f"another process trains in {self.path}; wait for it or give another directory"
                ) from error
            if self.failed_at_once():
                (self.path / "log.jsonl").unlink()
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            write_text(self.path / "config.json", json.dumps(wanted, indent=2))
            for leftover in self.checkpoints.glob(".*"):
                shutil.rmtree(leftover)
        self.begun = True
        wait()
        return self.latest()

    def close(self) -> None:
        """Lets other trainings continue here."""
        self.lock.release()

    def compare(
        self,
        found: dict[str, Any],
        wanted: dict[str, Any],
        config: TrainingConfig,
        may_lengthen: bool = True,
    ) -> None:
        """Raises UsageError unless a found run may be continued as wanted.

        Args:
            may_lengthen: whether it may have more epochs, where the schedule goes on.
        """
        check_command(found, wanted.get("command"), self.path)
        usual = json.loads(json.dumps(asdict(type(config)())))  # of options newer than the run
        was, now = flat(usual) | flat(found), flat(wanted)
        differing = [
            key
            for key in sorted(was.keys() | now.keys())
            if key not in FREE and not same(was.get(key), now.get(key))
        ]
        longer = may_lengthen and is_longer(was.get("epochs"), config.epochs)
        if longer and config.endless:
            differing.remove("epochs")
        if differing:
            other = [
                f"{key} was {json.dumps(was.get(key))}, is {json.dumps(now.get(key))}"
                for key in differing
            ]
            more = len(other) - DIFFERENCES_SHOWN
            rest = f"; {more} more" if more > 0 else ""
            advice = "give another directory or the same options"
            if longer and differing == ["epochs"]:
                advice = (
                    f"a {config.schedule} schedule ends with the epochs that it was started with: "
                    f"train on with --init {self.path} and another --out"
                )
            raise UsageError(
                f"{self.path} holds a run of another configuration "
                f"({'; '.join(other[:DIFFERENCES_SHOWN])}{rest}); {advice}"
            )
        if not config.resume:
            raise UsageError(
                f"{self.path} holds a run; continue it with --resume or give another directory"
            )

    def failed_at_once(self) -> bool:
        """Whether the run ended in an error before its first checkpoint."""
        log = self.path / "log.jsonl"
        if self.saved() or not log.exists():
            return False
        lines = log.read_text().splitlines()
        return bool(lines) and FAILED in lines[-1]

    def saved(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("step-*"))

    def place(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.checkpoints / name_of(step)

    @property
    def best(self) -> Path:
        """Where the model lies that validated best."""
        return self.path / "best"

    @property
    def final(self) -> Path:
        """Where the finished model lies."""
        return self.path / "final"

    def finished(self, step: int) -> bool:
        """Whether the run came to its end at a step, final model and all."""
        entries = self.entries()
        return any(e.get("event") == "finished" and e.get("step") == step for e in entries)

    def latest(self, before: int | None = None) -> Path | None:
        """The checkpoint that a continuation starts from; or the last one before a step."""
        saved = self.saved()
        if before is not None:
            saved = [place for place in saved if place.name < name_of(before)]
        return saved[-1] if saved else None

    def save(self, step: int, write: Callable[[Path], None], keep: int, best: int) -> Path:
        """Writes checkpoint `step` beside its place, renames it there and forgets old ones.

        Args:
            write: fills a directory.
            keep: newest checkpoints that stay.
            best: step of the best checkpoint, which stays too.
        """
        place = self.place(step)
        if self.writes and not place.exists():
            with replacing(place) as beside:
                write(beside)
            for old in self.saved()[:-keep]:
                if old.name != name_of(best):
                    shutil.rmtree(old)
        return place

    def log(self, entry: dict[str, Any]) -> None:
        """Adds a line to the log."""
        if self.writes:
            with (self.path / "log.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")

    def fail(self, error: Exception) -> None:
        """Notes in the log that this run, once begun, ended in an error."""
        if self.begun:
            self.log({"event": "failed", "error": f"{type(error).__name__}: {error}"})

    def forget_log_after(self, step: int) -> None:
        """Drops lines of steps that a continuation computes again, and a line cut by a kill."""
        file = self.path / "log.jsonl"
        if self.writes and file.exists():
            kept = [entry for entry in self.entries() if entry.get("step", 0) <= step]
            write_text(file, "".join(json.dumps(entry) + "\n" for entry in kept))

    def entries(self) -> list[dict[str, Any]]:
        """The lines of the log, but for one that a kill cut off."""
        file = self.path / "log.jsonl"
        found = []
        for line in file.read_text().splitlines() if file.exists() else ():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # the process was killed while writing this line
        return found


def planned_epochs(found: dict[str, Any], file: Path) -> float:
    """Epochs that a run was started with. Raises UsageError if its record is damaged."""
    planned = found.get("planned_epochs", found["epochs"])  # 0.1 recorded the latter alone
    if not is_longer(0, planned) or is_longer(found["epochs"], planned):
        raise UsageError(f"{file}: planned_epochs is {planned!r}; a number up to epochs is needed")
    return float(planned)


def changes(found: dict[str, Any], config: TrainingConfig) -> list[str]:
    """Lines on what a continuation does that the run did not, given the run's record."""
    notes = []
    if found["epochs"] != config.epochs:
        does = (
            f"the {config.schedule} schedule starts again every {config.restart_epochs:g} epochs"
            if config.restart_epochs
            else f"the learning rate stays at {config.learning_rate:g}"
        )
        notes.append(f"{found['epochs']:g} epochs become {config.epochs:g}: {does}")
    if found.get("max_steps") and not config.max_steps:
        notes.append(f"max_steps was {found['max_steps']} before; now the run goes to its end")
    return notes


def is_longer(was: Any, now: Any) -> bool:
    """Whether two values are numbers of epochs, and the second is larger."""
    numbers = [v for v in (was, now) if isinstance(v, int | float) and not isinstance(v, bool)]
    return len(numbers) == 2 and numbers[0] < numbers[1]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested table as one of dotted keys, as on the command line."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def same(was: Any, now: Any) -> bool:
    """Whether two values are equal, or two ways to name one place on the disk."""
    if was == now:
        return True
    texts = isinstance(was, str) and isinstance(now, str)
    return texts and os.path.exists(was) and os.path.exists(now) and os.path.samefile(was, now)


def name_of(step: int) -> str:
    """Directory name of a checkpoint, sorted like the numbers."""
    return f"step-{step:08d}"


def load_training(place: Path) -> dict[str, Any]:
    """What `training.pt` of a checkpoint holds.

    Raises:
        UsageError: if the file is damaged or would execute code.
    """
    file = place / "training.pt"
    try:
        return torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:
        raise UsageError(
            f"{file} cannot be read ({type(error).__name__}); remove {place} to continue from the "
            "checkpoint before"
        ) from error
