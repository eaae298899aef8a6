"""Lists the image files below a folder with their classes, and counts the other files."""

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nextscale.console.earlier import SHEETS
from nextscale.errors import UsageError
from nextscale.pictures.reading import EXTENSIONS, known_endings

# Files that systems add to folders of pictures (macOS, Windows, Synology), in lower case.
CLUTTER = ("__macosx", "thumbs.db", "desktop.ini", "@eadir")
HIDDEN, OVERVIEW, BARE = "hidden", "overviews", "without ending"  # kinds of what is left out


@dataclass(frozen=True)
class Listing:
    """Image files below a folder, as arrays, since there may be millions.

    Attributes:
        folder: where the paths start.
        names: of the classes, sorted; empty if unlabelled.
        paths: with slashes, bytes (N,), sorted by class and then by name.
        sizes: of the files in bytes, int64 (N,).
        times: of the files' last modification in nanoseconds, int64 (N,).
        labels: int64 (N,); 0 if unlabelled.
        left_out: number of other files by ending.
        empty: folders without images, which are not classes.
    """

    folder: Path
    names: tuple[str, ...]
    paths: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    times: NDArray[np.int64]
    labels: NDArray[np.int64]
    left_out: Mapping[str, int] = field(default_factory=dict)
    empty: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, chosen: NDArray[np.bool_]) -> "Listing":
        """The chosen files; classes keep their numbers."""
        arrays = ("paths", "sizes", "times", "labels")
        return replace(self, **{name: getattr(self, name)[chosen] for name in arrays})

    def path(self, number: int) -> Path:
        """Path of a file."""
        return self.folder / os.fsdecode(bytes(self.paths[number]))

    def digest(self) -> str:
        """Hash of class, path, size and time of all files, independent of the folder's location."""
        digest = hashlib.sha256(os.fsencode("\n".join(self.names)))
        for file in zip(self.paths, self.sizes, self.times, strict=True):
            digest.update(b"\0%b\0%d\0%d" % file)
        return digest.hexdigest()[:32]


@dataclass
class Found:
    """What lies below a folder.

    Attributes:
        files: of images: path with slashes, size in bytes, modification time in nanoseconds.
        left_out: number of other files by ending, and of hidden files and folders.
        empty: topmost folders without images, sorted.
    """

    files: list[tuple[str, int, int]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    empty: tuple[str, ...] = ()


def find_files(folder: Path) -> Found:
    """Finds images below a folder; links are followed unless they form a loop.

    Hidden files, hidden folders and overviews of sampled images are ignored. A broken link is
    listed with size 0, so that it is counted as an unreadable file.

    Raises:
        UsageError: if a folder cannot be listed.
    """
    found, visited = Found(), []
    waiting = [("", frozenset({folder.resolve()}))]
    while waiting:
        below, above = waiting.pop()
        try:
            entries = list(os.scandir(folder / below))
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be listed ({error.strerror})") from error
        overviews = sheets([entry.name for entry in entries])
        for entry in entries:
            path = f"{below}{entry.name}"
            if hidden(entry.name):
                found.left_out[HIDDEN] += 1
            elif entry.is_dir():
                target = Path(entry.path).resolve()
                if target not in above:
                    waiting.append((f"{path}/", above | {target}))
                    visited.append(path)
            elif entry.name in overviews:
                found.left_out[OVERVIEW] += 1
            elif not entry.name.lower().endswith(EXTENSIONS):
                found.left_out[ending(entry.name)] += 1
            elif entry.is_file():
                status = entry.stat()
                found.files.append((path, status.st_size, status.st_mtime_ns))
            elif not os.path.exists(entry.path):  # a broken link
                found.files.append((path, 0, 0))
            else:  # a pipe, a socket, a device, or a link to one
                found.left_out[ending(entry.name)] += 1
    found.empty = without_images(visited, (path for path, _, _ in found.files))
    return found


def without_images(folders: Iterable[str], files: Iterable[str]) -> tuple[str, ...]:
    """The topmost folders that contain none of the files, sorted."""
    filled = {""}
    for place in {os.path.dirname(path) for path in files}:
        while place not in filled:
            filled.add(place)
            place = os.path.dirname(place)
    return tuple(sorted(f for f in folders if f not in filled and os.path.dirname(f) in filled))


def scan(folder: Path) -> Listing:
    """Lists the images of a part; folders in it are classes.

    A folder without images is not a class; `Listing.empty` names it.

    Raises:
        UsageError: if it holds no image files, or both images and folders of images, or a class
            whose name is not valid UTF-8.
    """
    found = find_files(folder)
    files = sorted(found.files, key=lambda file: file[0].split("/"))
    if not files:
        raise UsageError(f"{folder} holds no images; known are {known_endings()}")
    paths = [path for path, _, _ in files]
    labelled = "/" in paths[0]
    plain = next((path for path in paths if ("/" in path) != labelled), None)
    if plain is not None:
        raise UsageError(
            f"{folder} holds both images ({plain if labelled else paths[0]}) and folders of "
            "images; move every image into the folder of its class"
        )
    classes = [path.split("/", 1)[0] for path in paths] if labelled else []
    names = tuple(sorted(set(classes)))
    check_names(folder, names)
    number = {name: i for i, name in enumerate(names)}
    labels = [number[name] for name in classes] if labelled else [0] * len(paths)
    return Listing(
        folder,
        names,
        np.array([os.fsencode(path) for path in paths], np.bytes_),
        np.array([size for _, size, _ in files], np.int64),
        np.array([time for _, _, time in files], np.int64),
        np.array(labels, np.int64),
        found.left_out,
        found.empty,
    )


def check_names(folder: Path, names: Iterable[str]) -> None:
    """Raises UsageError if the name of a class is not valid UTF-8, as checkpoints require."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"the class folder {name} in {folder} has a name that is not UTF-8; rename it"
            ) from None


def sheets(names: Collection[str]) -> list[str]:
    """Selects overviews of sampled images from the names of all files of a folder."""
    patterns = [sheet for record, beside in SHEETS.items() if record in names for sheet in beside]
    return [name for name in names for pattern in patterns if fnmatchcase(name, pattern)]


def hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or created by a system without the user's knowledge."""
    return name.startswith(".") or name.lower() in CLUTTER


def ending(name: str) -> str:
    """A file's ending in lower case, or `BARE` if it has none."""
    return os.path.splitext(name)[1].lower() or BARE


def left_out(counts: Mapping[str, int]) -> str:
    """Describes ignored files by ending, most frequent first: `3 .txt, 1 .json`."""
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {kind}" for kind, count in common)
