"""A run's directory: its configuration, log and checkpoints, and the checks before resuming.

.lock                  held by the process that trains here
config.json            the command's whole configuration
data.json              the record of the training images (see `data.record`)
log.jsonl              one line per event
checkpoints/step-N/    a checkpoint directory (see `checkpoint`) and `training.pt` beside it
best/                  the model of the best validation so far, stored like the final one
final/                 the finished model

None of them may be a link: a directory from others must not lead to other files.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nextscale.checkpoints.checkpoint import bundled_names
from nextscale.config.presets import RELEASED
from nextscale.config.registry import SOURCES
from nextscale.config.run import TrainingConfig
from nextscale.data.record import Record, differences, read_record, same_numbers, write_record
from nextscale.errors import UsageError
from nextscale.judges.classifiers import classifier_names
from nextscale.storage.files import (
    append_text,
    check_all_plain,
    check_replaceable,
    is_ours,
    listed,
    read_json,
    recover_all,
    remove_whole,
    replacing,
    write_text,
)
from nextscale.training.log import read_log
from nextscale.training.run_options import (
    OF_DATA,
    OF_WEIGHTS,
    check_options,
    is_record,
    option_notes,
    planned_epochs,
    recorded,
)
from nextscale.training.saved import TRAINING, name_of

# Files of checkpoints and final models of any stage; a folder with other files is not removed.
WEIGHTS = ("tokenizer.safetensors", "model.safetensors", "classifier.safetensors")
FINAL = ("config.json", *WEIGHTS)
CHECKPOINT = (*FINAL, TRAINING)
LOCK, CONFIG, DATA, LOG, PICTURES = ".lock", "config.json", "data.json", "log.jsonl", "pictures"
STEP = re.compile(r"step-\d{8,}")
# Names that a killed process may have left unfinished, by their folder.
WRITTEN = {
    "": r"best|final|config\.json|data\.json|log\.jsonl|report\.html",
    "checkpoints": STEP.pattern,
    PICTURES: r"[\w-]+\.png",
}


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
        self.changes: list[str] = []  # in the data of a resumed run
        self.notes: list[str] = []  # on its options

    def check(self, command: str, config: TrainingConfig, data: Record) -> dict[str, Any]:
        """Checks that a run may start or continue here.

        A run that left neither a checkpoint nor a model may be replaced by any other.

        Args:
            data: the record of the data.

        Returns:
            contents of `config.json`: the options, the command, and the epochs that the run was
            planned with, which a resumed run may exceed.

        Raises:
            UsageError: if the directory holds another configuration, a run of other data, a run
                and no `resume`, or something else, or anything in it is a link.
        """
        check_all_plain(self.path)
        for place in (self.best, self.final):
            check_replaceable(place, FINAL)
        wanted = recorded(command, config, known_names())
        file = self.path / CONFIG
        found = read_json(file) if file.exists() else {}
        if found and not is_record(found):
            raise UsageError(f"{self.path} holds no run, but a checkpoint; give a run's directory")
        if found and not self.holds_nothing():
            known = (self.path / DATA).exists()
            free = (*OF_DATA * known, *OF_WEIGHTS * bool(self.saved()))
            check_options(found, wanted, config, self.path, free)
            self.changes = self.compare_data(data, command, config.data.changed)
            wanted["planned_epochs"] = planned_epochs(found, file)
            self.notes = option_notes(found, config)
        elif self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; give a directory for the run")
        elif not file.exists() and not all(map(is_beginning, listed(self.path))):
            raise UsageError(f"{self.path} is not empty and holds no run; give another directory")
        return wanted

    def open(
        self,
        command: str,
        config: TrainingConfig,
        data: Record,
        wait: Callable[[], None] = lambda: None,
    ) -> Path | None:
        """Starts or resumes a run; returns the checkpoint to resume from, None for a new run.

        Args:
            data: the record of the data.
            wait: a barrier over the processes; all of them check before one writes.

        Raises:
            UsageError: like `check`, and if another process trains in this directory.
        """
        wanted = self.check(command, config, data)
        wait()
        if self.writes:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self.lock.acquire(timeout=0)
            except Timeout as error:
                raise UsageError(
                    f"another process trains in {self.path}; wait for it or give another directory"
                ) from error
            for folder, names in WRITTEN.items():
                recover_all(self.path / folder, names, locked=True)
            if self.holds_nothing():
                (self.path / LOG).unlink(missing_ok=True)
            write_text(self.path / CONFIG, json.dumps(wanted, indent=2))
            write_record(data, self.path / DATA)
            self.checkpoints.mkdir(exist_ok=True)
            if self.changes:
                self.log({"event": "data", "changes": self.changes})
        self.begun = True
        wait()
        return self.latest()

    def close(self) -> None:
        """Releases the lock on the directory."""
        self.lock.release()

    def compare_data(self, data: Record, command: str, may_change: bool) -> list[str]:
        """Returns lines on how the data differs from what the run was trained on.

        Raises:
            UsageError: if it differs without `may_change`, or if classes have other numbers.
        """
        file = self.path / DATA
        if not file.exists():
            return [f"{self.path} has no record of its data; one is written now"]
        was = read_record(file)
        found = differences(was, data)
        line = f"{self.path} was trained on other data ({'; '.join(found)})"
        if found and command != "train tokenizer" and not same_numbers(was, data):
            raise UsageError(
                f"{line}, where classes have other numbers; start a run with --init in another "
                "directory"
            )
        if found and not may_change:
            raise UsageError(
                f"{line}; restore the data, or give --data.changed to use the changed data"
            )
        return [line] if found else []

    def holds_nothing(self) -> bool:
        """Whether the run has no checkpoint, no model (even one put aside) and no validation."""
        aside = (*self.path.glob(".*.old-*"), *self.checkpoints.glob(".*.old-*"))
        if self.saved() or aside or self.best.exists() or self.final.exists():
            return False
        return not any(e.get("event") in ("validation", "finished") for e in self.entries())

    def saved(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(p for p in self.checkpoints.glob("step-*") if STEP.fullmatch(p.name))

    def place(self, step: int) -> Path:
        """Path of a step's checkpoint."""
        return self.checkpoints / name_of(step)

    @property
    def best(self) -> Path:
        """Path of the model with the best validation."""
        return self.path / "best"

    @property
    def final(self) -> Path:
        """Path of the final model."""
        return self.path / "final"

    def finished(self, step: int) -> bool:
        """Whether the log records that the run finished at a step."""
        entries = self.entries()
        return any(e.get("event") == "finished" and e.get("step") == step for e in entries)

    def latest(self, before: int | None = None) -> Path | None:
        """The newest checkpoint, or the newest one before a step; None if there is none."""
        saved = self.saved()
        if before is not None:
            saved = [place for place in saved if place.name < name_of(before)]
        return saved[-1] if saved else None

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Writes checkpoint `step` under a temporary name and renames it, unless it exists.

        Args:
            write: fills a directory.
        """
        place = self.place(step)
        if self.writes and not place.exists():
            with replacing(place, CHECKPOINT) as beside:
                write(beside)

    def forget(self, keep: int, best: int) -> None:
        """Removes old checkpoints, except those that hold foreign files.

        Args:
            keep: number of newest checkpoints that are kept.
            best: step of the best checkpoint, which is kept too.
        """
        for old in self.saved()[:-keep] if self.writes else ():
            if old.name != name_of(best) and is_ours(old, CHECKPOINT):
                remove_whole(old)

    def log(self, entry: dict[str, Any]) -> None:
        """Appends a line to the log."""
        if self.writes:
            append_text(self.path / LOG, json.dumps(entry) + "\n")

    def fail(self, error: BaseException) -> None:
        """Logs the error with which a run ended, if it had begun."""
        if self.begun:
            self.log({"event": "failed", "error": f"{type(error).__name__}: {error}"})

    def forget_log_after(self, step: int) -> None:
        """Removes log lines of steps that a resumed run repeats, and incomplete lines."""
        file = self.path / LOG
        if self.writes and file.exists():
            kept = [entry for entry in self.entries() if entry.get("step", 0) <= step]
            write_text(file, "".join(json.dumps(entry) + "\n" for entry in kept))

    def entries(self) -> list[dict[str, Any]]:
        """The lines of the log."""
        file = self.path / LOG
        return read_log(file) if file.exists() else []


def is_beginning(entry: Path) -> bool:
    """Whether a run that was killed while it started may have left this entry."""
    return entry.name == LOCK or entry.name.startswith(f".{CONFIG}.tmp-")


def known_names() -> set[str]:
    """Names of models and data, which take precedence over folders of the same name."""
    return {*bundled_names(), *RELEASED, *classifier_names(), *SOURCES.homes}
