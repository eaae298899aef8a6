"""Examines every image of a data set: sizes, unreadable files and duplicates.

Each file is decoded once. Two files are duplicates if their upright pixels are equal.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nextscale.data.folder import with_classes_of
from nextscale.data.layout import Layout, find_layout
from nextscale.data.listing import Listing, scan
from nextscale.pictures.pixels import is_grey
from nextscale.pictures.reading import decode, reason_of


@dataclass(frozen=True)
class Parts:
    """The files of a data set.

    Attributes:
        layout: its folders.
        training: the training files.
        held_out: the validation files; None if a part is split off instead.
    """

    layout: Layout
    training: Listing
    held_out: Listing | None

    @property
    def listings(self) -> tuple[Listing, ...]:
        """The training files, and the validation files if there are any."""
        return (self.training,) if self.held_out is None else (self.training, self.held_out)

    def __len__(self) -> int:
        return sum(map(len, self.listings))


@dataclass
class Findings:
    """Findings on the pictures of a data set.

    Attributes:
        sizes: (width, height) in pixels of every readable picture.
        grey: number of grey pictures among them.
        unreadable: reasons by file.
        duplicates: groups of files that show the same pixels.
        across_parts: groups that lie in training and validation.
        across_classes: groups that lie in several classes.
    """

    sizes: list[tuple[int, int]] = field(default_factory=list)
    grey: int = 0
    unreadable: dict[Path, str] = field(default_factory=dict)
    duplicates: list[list[Path]] = field(default_factory=list)
    across_parts: list[list[Path]] = field(default_factory=list)
    across_classes: list[list[Path]] = field(default_factory=list)

    def short_side(self) -> int:
        """The median of the shorter sides, in pixels."""
        return int(np.median([min(size) for size in self.sizes]))

    def aspect_ratios(self) -> tuple[float, float, float]:
        """Width over height: smallest, median, largest."""
        ratios = [width / height for width, height in self.sizes]
        return min(ratios), float(np.median(ratios)), max(ratios)


def open_parts(root: Path) -> Parts:
    """Lists the files of a data set as a training does.

    Raises:
        UsageError: like `folder.open_folder`.
    """
    layout = find_layout(root)
    training = scan(layout.training)
    held_out = with_classes_of(training, scan(layout.held_out)) if layout.held_out else None
    return Parts(layout, training, held_out)


def examine(parts: Parts, advance: Callable[[int], None]) -> Findings:
    """Decodes every file.

    Args:
        advance: called with the number of files that were examined since the last call.
    """
    found = Findings()
    same: dict[bytes, list[tuple[int, int, Path]]] = defaultdict(list)  # part, label and file
    for part, listing in enumerate(parts.listings):
        for number in range(len(listing)):
            path = listing.path(number)
            try:
                picture = decode(path, 3)
            except MemoryError:
                raise  # not a fault of the file
            except Exception as error:  # Pillow raises many types for damaged files
                found.unreadable[path] = reason_of(error)
            else:
                found.sizes.append(picture.size)
                found.grey += is_grey(picture)
                pixels = b"%d %d " % picture.size + picture.tobytes()
                digest = hashlib.blake2b(pixels, digest_size=16).digest()
                same[digest].append((part, int(listing.labels[number]), path))
            advance(1)
    groups = [group for group in same.values() if len(group) > 1]
    found.duplicates = paths_of(groups)
    found.across_parts = paths_of(g for g in groups if len({part for part, _, _ in g}) > 1)
    found.across_classes = paths_of(g for g in groups if len({label for _, label, _ in g}) > 1)
    return found


def paths_of(groups: Iterable[list[tuple[int, int, Path]]]) -> list[list[Path]]:
    """The files of each group."""
    return [[path for _, _, path in group] for group in groups]
