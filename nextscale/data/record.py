"""What data a run was trained on, so that a continuation on other data is noticed.

Files are known by class, path, size and modification time; data sets with a name by their pixels.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextscale.errors import UsageError
from nextscale.storage.files import read_json, write_text

SHOWN = 3  # files or classes, in a message


def none() -> NDArray[Any]:
    """An empty array."""
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Record:
    """Identifies the images of a data set.

    Attributes:
        names: of the classes, in the order of their numbers; empty if unlabelled.
        paths: of the files, with slashes, bytes (N,).
        facts: int64 (N, 3): label, bytes, and time of the last modification in nanoseconds.
        folder: name of the folder where the paths start.
        pixels: hash of images that are not files; empty for files.
    """

    names: tuple[str, ...] = ()
    paths: NDArray[np.bytes_] = field(default_factory=none)
    facts: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))
    folder: str = ""
    pixels: str = ""

    def files(self) -> dict[str, tuple[int, ...]]:
        """Label, size and modification time of each file by its path."""
        rows = zip(self.paths.tolist(), self.facts.tolist(), strict=True)
        return {os.fsdecode(path): tuple(facts) for path, facts in rows}

    def digest(self) -> str:
        """Hash of the record; it does not depend on the order of the files."""
        digest = hashlib.sha256(json.dumps([self.names, self.pixels]).encode())
        for i in np.argsort(self.paths, kind="stable"):
            digest.update(b"\0%b\0%d\0%d\0%d" % (self.paths[i], *self.facts[i].tolist()))
        return digest.hexdigest()[:32]


def joined(training: Record, held_out: Record) -> Record:
    """The record of both parts of a data set.

    If one was split off the other, the run's options determine the part of each file.
    """
    parts = [training, held_out]
    paths = [part.paths for part in parts]
    if training.folder != held_out.folder:
        paths = [np.char.add(os.fsencode(f"{part.folder}/"), part.paths) for part in parts]
    return Record(
        training.names,
        np.concatenate(paths),
        np.concatenate([part.facts for part in parts]),
        pixels=" ".join(part.pixels for part in parts if part.pixels),
    )


def write_record(record: Record, file: Path) -> None:
    """Writes a record as JSON; bytes of a path that are not UTF-8 become lone surrogates."""
    table = {"classes": record.names, "pixels": record.pixels, "files": record.files()}
    write_text(file, json.dumps(table))


def read_record(file: Path) -> Record:
    """Reads a record of `write_record`. Raises UsageError if the file is damaged."""
    table = read_json(file)
    try:
        names, pixels, files = table["classes"], table["pixels"], table["files"]
        if not all(isinstance(text, str) for text in [pixels, *names]):
            raise TypeError("a name is no text")
        facts = [[whole(value) for value in row] for row in files.values()]
        paths = [os.fsencode(path) for path in files]
        return Record(
            tuple(names),
            np.array(paths, np.bytes_) if paths else none(),
            np.array(facts, np.int64).reshape(len(paths), 3),
            pixels=pixels,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(
            f"{file} is not the record of a run's data ({error}); remove it to skip the check"
        ) from error


def whole(value: Any) -> int:
    """Returns a JSON value that is an integer. Raises TypeError for any other."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


def renamed(was: Record, now: Record) -> dict[str, str]:
    """New names, by old name, of classes that hold the same files under another name."""
    before, after = by_class(was), by_class(now)
    gone, new = before.keys() - after.keys(), after.keys() - before.keys()
    found = {old: [name for name in new if after[name] == before[old]] for old in gone}
    return {old: names[0] for old, names in found.items() if len(names) == 1}


def by_class(record: Record) -> dict[str, set[tuple[str, tuple[int, ...]]]]:
    """Name, size and time of the files of each class, without their folders."""
    found: dict[str, set[tuple[str, tuple[int, ...]]]] = defaultdict(set)
    for path, (label, *facts) in record.files().items():
        if label < len(record.names):
            found[record.names[label]].add((os.path.basename(path), tuple(facts)))
    return found


def differences(was: Record, now: Record) -> list[str]:
    """Describes the differences between two records; empty if there are none."""
    if was.digest() == now.digest():
        return []
    if was.pixels or now.pixels:
        return [f"it was {kind_of(was)}, it is {kind_of(now)}"]
    names = renamed(was, now)
    gone = [name for name in was.names if name not in {*now.names, *names}]
    new = [name for name in now.names if name not in {*was.names, *names.values()}]
    lines = [f"class {old} is called {name} now" for old, name in sorted(names.items())[:SHOWN]]
    lines += [f"{len(names) - SHOWN} more classes are renamed"] * (len(names) > SHOWN)
    lines += [f"{some('class', gone, 'classes')} removed"] if gone else []
    lines += [f"{some('class', new, 'classes')} added"] if new else []
    moved = {*names, *names.values()}
    before, after = without(was, moved), without(now, moved)
    common = before.keys() & after.keys()
    for what, paths in {
        "removed": before.keys() - after.keys(),
        "added": after.keys() - before.keys(),
        "changed": {path for path in common if before[path][1:] != after[path][1:]},
    }.items():
        lines += [f"{some('file', sorted(paths))} {what}"] if paths else []
    return lines or ["the order of its classes"]


def without(record: Record, classes: set[str]) -> dict[str, tuple[int, ...]]:
    """The files of a record except those of the given classes."""
    left_out = {i for i, name in enumerate(record.names) if name in classes}
    return {path: facts for path, facts in record.files().items() if facts[0] not in left_out}


def same_numbers(was: Record, now: Record) -> bool:
    """Whether every class keeps its number, perhaps under another name."""
    names = renamed(was, now)
    return tuple(names.get(name, name) for name in was.names) == now.names


def some(noun: str, names: Sequence[str], plural: str = "") -> str:
    """A count with a few names."""
    count = len(names)
    shown = ", ".join(names[:SHOWN]) + (", …" if count > SHOWN else "")
    return f"{count:,} {noun if count == 1 else plural or noun + 's'} ({shown})"


def kind_of(record: Record) -> str:
    """Describes the kind of data."""
    return record.pixels or f"a folder of {len(record.paths):,} images"
