"""A run's directory: its configuration, log and checkpoints, and how a run finds its way back.

.lock                  held by the process that trains here
config.json            the command's whole configuration
data.json              what images it is trained on (see `data.record`)
log.jsonl              one line an event
checkpoints/step-N/    a checkpoint directory (see `checkpoint`) and `training.pt` beside it
final/                 the finished model

None of them may be a link, so that a directory from others leads nowhere else.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nextscale.config.run import TrainingConfig
from nextscale.data.record import Record, differences, read_record, same_numbers, write_record
from nextscale.errors import UsageError
from nextscale.files import (
    append_text,
    check_no_links,
    check_replaceable,
    is_ours,
    read_json,
    recover,
    remove_tree,
    replacing,
    write_text,
)
from nextscale.training.log import read_log
from nextscale.training.saved import TRAINING

# Options that may differ between a run and its continuation: they do not change what is computed.
FREE = (
    "out", "resume", "keep", "log_every", "max_steps", "validate_every", "save_every",
    "validation_images", "cache", "data.workers",
)  # fmt: skip
# What a checkpoint of any stage and the finished model may hold; a folder with more is left alone.
WEIGHTS = ("tokenizer.safetensors", "model.safetensors", "classifier.safetensors")
FINAL = ("config.json", *WEIGHTS)
CHECKPOINT = (*FINAL, TRAINING)
FROM_DATA = ("classifier.labels",)  # compared with the data's record, where there is one
DIFFERENCES_SHOWN = 3
LOCK, DATA = ".lock", "data.json"
STEP = re.compile(r"step-\d{8,}")
LEFTOVER = re.compile(r"\.step-(\d{8,15})\.")


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
        self.changes: list[str] = []

    def check(self, command: str, config: TrainingConfig, data: Record) -> dict[str, Any]:
        """The configuration as it is written, if the run may start or continue here.

        A run that failed before its first checkpoint holds nothing, so any other takes its place.

        Args:
            data: that the run would train on.

        Raises:
            UsageError: if the directory holds another configuration, a run of other data, a run
                and no `resume`, or something else, or anything in it is a link.
        """
        check_no_links(self.path)
        check_replaceable(self.final, FINAL)
        wanted = {"command": command, **json.loads(json.dumps(asdict(config)))}
        del wanted["data"]["changed"]  # it is said once for every change
        file = self.path / "config.json"
        if file.exists():
            if not self.failed_at_once():
                self.compare(read_json(file), wanted, config.resume)
                self.changes = self.compare_data(data, command, config.data.changed)
        elif self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; give a directory for the run")
        elif self.path.exists() and any(inner.name != LOCK for inner in self.path.iterdir()):
            raise UsageError(f"{self.path} is not empty and holds no run; give another directory")
        return wanted

    def open(
        self,
        command: str,
        config: TrainingConfig,
        data: Record,
        wait: Callable[[], None] = lambda: None,
    ) -> Path | None:
        """Starts or continues a run; gives the checkpoint to continue from, None for a fresh start.

        Args:
            data: that the run trains on.
            wait: a barrier over the processes; all have checked before one writes.

        Raises:
            UsageError: as `check`, and if another process trains here.
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
            if self.failed_at_once():
                (self.path / "log.jsonl").unlink()
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            write_text(self.path / "config.json", json.dumps(wanted, indent=2))
            for place in {self.final, *map(self.place, self.leftover_steps())}:
                recover(place, locked=True)
            write_record(data, self.path / DATA)
            if self.changes:
                self.log({"event": "data", "changes": self.changes})
        self.begun = True
        wait()
        return self.latest()

    def close(self) -> None:
        """Lets other trainings continue here."""
        self.lock.release()

    def compare(self, found: dict[str, Any], wanted: dict[str, Any], resume: bool) -> None:
        """Raises UsageError unless a found run may be continued as wanted."""
        was, now = flat(found), flat(wanted)
        free = (*FREE, *FROM_DATA) if (self.path / DATA).exists() else FREE
        other = [
            f"{key} was {json.dumps(was.get(key))}, is {json.dumps(now.get(key))}"
            for key in sorted(was.keys() | now.keys())
            if key not in free and not same(was.get(key), now.get(key))
        ]
        if other:
            more = len(other) - DIFFERENCES_SHOWN
            rest = f"; {more} more" if more > 0 else ""
            raise UsageError(
                f"{self.path} holds a run of another configuration "
                f"({'; '.join(other[:DIFFERENCES_SHOWN])}{rest}); give another directory or the "
                "same options"
            )
        if not resume:
            raise UsageError(
                f"{self.path} holds a run; continue it with --resume or give another directory"
            )

    def compare_data(self, data: Record, command: str, may_change: bool) -> list[str]:
        """What differs from the data that the run was trained on, or that this is not known.

        Raises:
            UsageError: if it differs and may not, or classes have other numbers than before.
        """
        file = self.path / DATA
        if not file.exists():
            return [f"{self.path} has no record of its data; from now on it has"]
        was = read_record(file)
        found = differences(was, data)
        told = f"{self.path} was trained on other data ({'; '.join(found)})"
        if found and command != "train tokenizer" and not same_numbers(was, data):
            raise UsageError(
                f"{told}, where classes have other numbers; start a run with --init in another "
                "directory"
            )
        if found and not may_change:
            raise UsageError(
                f"{told}; give the data as it was, or --data.changed to go on with it as it is"
            )
        return [told] if found else []

    def failed_at_once(self) -> bool:
        """Whether the run ended in an error before its first checkpoint."""
        log = self.path / "log.jsonl"
        if self.saved() or not log.exists():
            return False
        entries = read_log(log)
        return bool(entries) and entries[-1].get("event") == "failed"

    def saved(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(p for p in self.checkpoints.glob("step-*") if STEP.fullmatch(p.name))

    def leftover_steps(self) -> list[int]:
        """Steps of which a killed process left a part of a checkpoint."""
        found = (LEFTOVER.match(entry.name) for entry in self.checkpoints.glob(".step-*"))
        return [int(match[1]) for match in found if match]

    def place(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.checkpoints / name_of(step)

    @property
    def final(self) -> Path:
        """Where the finished model lies."""
        return self.path / "final"

    def latest(self, before: int | None = None) -> Path | None:
        """The checkpoint that a continuation starts from; or the last one before a step."""
        saved = self.saved()
        if before is not None:
            saved = [place for place in saved if place.name < name_of(before)]
        return saved[-1] if saved else None

    def save(self, step: int, write: Callable[[Path], None], keep: int, best: int) -> Path:
        """Writes checkpoint `step` beside its place, renames it there and forgets old ones.

        An old one with foreign files in it stays.

        Args:
            write: fills a directory.
            keep: newest checkpoints that stay.
            best: step of the best checkpoint, which stays too.
        """
        place = self.place(step)
        if self.writes and not place.exists():
            with replacing(place, CHECKPOINT) as beside:
                write(beside)
            for old in self.saved()[:-keep]:
                if old.name != name_of(best) and is_ours(old, CHECKPOINT):
                    remove_tree(old)
        return place

    def log(self, entry: dict[str, Any]) -> None:
        """Adds a line to the log."""
        if self.writes:
            append_text(self.path / "log.jsonl", json.dumps(entry) + "\n")

    def fail(self, error: Exception) -> None:
        """Notes in the log that this run, once begun, ended in an error."""
        if self.begun:
            self.log({"event": "failed", "error": f"{type(error).__name__}: {error}"})

    def forget_log_after(self, step: int) -> None:
        """Drops lines of steps that a continuation computes again, and a line cut by a kill."""
        file = self.path / "log.jsonl"
        if self.writes and file.exists():
            kept = [entry for entry in read_log(file) if entry.get("step", 0) <= step]
            write_text(file, "".join(json.dumps(entry) + "\n" for entry in kept))


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
