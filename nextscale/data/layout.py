"""Finds the folders of a data set that hold the training images and the held-out images.

Usual names of `train`, `val` and `test` are recognised in any case and are never classes.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nextscale.data.listing import ending, hidden
from nextscale.errors import UsageError
from nextscale.pictures.reading import EXTENSIONS

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation", "dev")
TEST = ("test", "testing")
SHOWN = 10  # folders, in a message


@dataclass(frozen=True)
class Layout:
    """The parts of a data set.

    Attributes:
        root: the given folder, or the single folder in it.
        training: the folder of the training images.
        held_out: the folder of the validation images; None if a part is split off instead.
        unused: names of other folders in `root`, including a test split.
        left_out: number of other files in `root` by ending.
    """

    root: Path
    training: Path
    held_out: Path | None = None
    unused: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def find_layout(given: Path) -> Layout:
    """Finds the parts of a data set: `train/` and `val/`, or the folder itself.

    A test split is ignored. If the folder holds nothing but one folder that holds the parts, that
    one is used.

    Raises:
        UsageError: if the folder is missing or the parts are ambiguous.
    """
    root, folders, left = given, *entries_of(given)
    single = len(folders) == 1 and left.keys().isdisjoint(EXTENSIONS)
    if single and not split_of(folders[0]):
        inner, below = entries_of(root / folders[0])
        if any(split_of(name) == TRAIN for name in inner):
            root, folders, left = root / folders[0], inner, left + below
    splits = {
        kind: [f for f in folders if split_of(f) == kind] for kind in (TRAIN, VALIDATION, TEST)
    }
    training, validation, test = splits.values()
    if not training and not validation and not test:
        return Layout(root, root)
    others = [name for name in folders if not split_of(name)]
    doubtful = others and not validation and not test
    if len(training) != 1 or len(validation) > 1 or doubtful:
        raise UsageError(
            f"{root} has the folders {', '.join(folders[:SHOWN])}; give train/ and val/, or "
            "train/ alone, or classes of other names"
        )
    held_out = root / validation[0] if validation else None
    return Layout(root, root / training[0], held_out, (*test, *others), left)


def split_of(name: str) -> tuple[str, ...] | None:
    """The usual names of the split that a folder's name means; None if it may be a class."""
    return next((kind for kind in (TRAIN, VALIDATION, TEST) if name.lower() in kind), None)


def entries_of(folder: Path) -> tuple[list[str], Counter[str]]:
    """The sorted folders in a folder, and the number of its files by ending; not hidden ones.

    Raises:
        UsageError: if it is missing or cannot be listed.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give a folder of images")
    try:
        entries = [entry for entry in os.scandir(folder) if not hidden(entry.name)]
    except OSError as error:
        raise UsageError(f"{folder} cannot be listed ({error.strerror})") from error
    folders = sorted(entry.name for entry in entries if entry.is_dir())
    return folders, Counter(ending(entry.name) for entry in entries if not entry.is_dir())
