"""Folders of images in the ImageNet layout, with or without classes.

A file is decoded whenever it is loaded; an unreadable one is replaced by the next readable one.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nextscale.data.augment import Augmentation
from nextscale.data.images import Batch
from nextscale.data.layout import find_layout
from nextscale.data.listing import Listing, scan
from nextscale.data.order import Part
from nextscale.data.record import Record
from nextscale.errors import UsageError
from nextscale.pictures.pixels import to_tensor
from nextscale.pictures.reading import decode, read_picture, reason_of

CLASSES_SHOWN = 5  # in a message


class ImageFolder:
    """A `Source` of image files.

    Args:
        listing: the files.
        augmentation: applied to every image.
        strict: whether an unreadable file raises instead of being replaced by the next one.

    Attributes:
        names: of the classes; empty if unlabelled, in which case all labels are 0.
        identity: of the files and the augmentation.

    Raises:
        UsageError: if no file can be read.
    """

    reads_files = True

    def __init__(self, listing: Listing, augmentation: Augmentation, strict: bool = False) -> None:
        self.listing = listing
        self.augmentation = augmentation
        self.strict = strict
        self.names: tuple[str, ...] = listing.names
        self.identity: str = f"folder {listing.digest()} {augmentation.identity}"
        self.readable(0)

    @property
    def record(self) -> Record:
        """Labels, sizes and modification times of the files."""
        listing = self.listing
        facts = np.stack([listing.labels, listing.sizes, listing.times], axis=1)  # (N, 3)
        return Record(listing.names, listing.paths, facts, listing.folder.name)

    def __len__(self) -> int:
        return len(self.listing)

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.listing.labels

    def load(self, part: Part) -> Batch:
        """Images and labels; a file that cannot be read is replaced by the next one that can.

        A replacement is varied by the draws of the sample that it stands for.

        Raises:
            UsageError: at an unreadable file if strict, or if no file can be read.
        """
        draws = self.augmentation.draws(part.epoch, part.samples)  # (B, 3)
        taken = np.empty(len(part.samples), np.int64)
        pictures = []
        for i, sample in enumerate(part.samples):
            taken[i], picture = self.readable(int(sample))
            pictures.append(self.augmentation.apply(picture, draws[i]))
        return Batch(
            part=part,
            images=to_tensor(pictures, self.augmentation.channels),
            labels=torch.from_numpy(self.listing.labels[taken]),
            skipped=int((taken != part.samples).sum()),
        )

    def readable(self, sample: int) -> tuple[int, Image.Image]:
        """Decodes the sample, or the next readable one; the first file follows the last.

        Returns:
            number and picture.

        Raises:
            UsageError: like `load`.
        """
        first = ""
        for candidate in range(sample, sample + len(self)):
            number = candidate % len(self)
            path = self.listing.path(number)
            try:
                return number, decode(path, self.augmentation.channels)
            except MemoryError:
                raise  # not a fault of the file
            except Exception as error:  # Pillow raises many types for damaged files
                first = first or f"{path.name}: {reason_of(error)}"
                if self.strict:
                    raise UsageError(
                        f"{path} cannot be read ({reason_of(error)}); repair or remove it, or "
                        "omit --data.strict to skip such files"
                    ) from error
        raise UsageError(
            f"none of the {len(self)} image files in {self.listing.folder} can be read ({first})"
        )


def open_folder(
    root: Path, augmentation: Augmentation, validation: float, strict: bool = False
) -> tuple[ImageFolder, ImageFolder]:
    """Opens the training and validation images of a folder; only the former are augmented.

    Layouts: `train/CLASS/*` and `val/CLASS/*`; `train/*` and `val/*` (unlabelled); `CLASS/*`;
    plain files (unlabelled); see `find_layout` for other names. Files may lie deeper below a class.
    Without `val/` a part is split off by the augmentation's seed.

    Args:
        validation: share to split off, at least one image.
        strict: see `ImageFolder`.

    Raises:
        UsageError: if the folder is missing, empty, ambiguous or unreadable, or if `val/` has
            classes that `train/` lacks.
    """
    layout = find_layout(root)
    training = scan(layout.training)
    if layout.held_out:
        held_out = with_classes_of(training, scan(layout.held_out))
    else:
        held = hold_out(training, validation, augmentation, strict)
        training, held_out = training.part(~held), training.part(held)
    return (
        ImageFolder(training, augmentation, strict),
        ImageFolder(held_out, augmentation.unvaried(), strict),
    )


def with_classes_of(training: Listing, held_out: Listing) -> Listing:
    """The held-out files, with labels that refer to the training classes.

    Raises:
        UsageError: if they have other classes, or if only one of the two is labelled.
    """
    unknown = sorted(set(held_out.names) - set(training.names))
    if unknown or bool(training.names) != bool(held_out.names):
        found = f"the class {unknown[0]!r}" if unknown else "no classes"
        shown = [*training.names[:CLASSES_SHOWN], *["…"] * (len(training.names) > CLASSES_SHOWN)]
        wanted = f"only {', '.join(shown)}" if shown else "none"
        raise UsageError(
            f"{held_out.folder} has {found} but {training.folder} has {wanted}; "
            "give both the same classes"
        )
    numbers = np.array([training.names.index(name) for name in held_out.names] or [0], np.int64)
    return replace(held_out, names=training.names, labels=numbers[held_out.labels])


def hold_out(
    listing: Listing, share: float, augmentation: Augmentation, strict: bool
) -> NDArray[np.bool_]:
    """Selects files by `split` so that at least one can be read; returns bool (N,).

    If all selected files are unreadable, they become training files and others are selected.

    Raises:
        UsageError: if fewer than two files can be read.
    """
    left = np.ones(len(listing), np.bool_)
    while True:
        held = np.zeros(len(listing), np.bool_)
        held[left] = split(listing.part(left), share, augmentation.seed)
        if strict or any(
            can_be_read(listing.path(int(number)), augmentation.channels)
            for number in np.flatnonzero(held)
        ):
            return held
        left &= ~held


def too_few(folder: Path) -> UsageError:
    """The error about a folder with too few images for a split."""
    return UsageError(
        f"{folder} holds fewer than 2 images that can be read; give at least 2, to train and to "
        "validate"
    )


def split(listing: Listing, share: float, seed: int) -> NDArray[np.bool_]:
    """Selects the files that are held out for validation; returns bool (N,).

    The files are sorted by class and then by a hash of seed and path, and selected at even
    distances. So each class contributes its share, and only names and seed decide.

    Raises:
        UsageError: if there are fewer than two files.
    """
    count = len(listing)
    if count < 2:
        raise too_few(listing.folder)
    wanted = min(max(round(share * count), 1), count - 1)
    keys = [hashlib.sha256(b"%d/%b" % (seed, path)).digest()[:8] for path in listing.paths]
    order = np.lexsort((np.frombuffer(b"".join(keys), np.uint64), listing.labels))
    held = np.zeros(count, np.bool_)
    held[order] = np.diff(np.arange(count + 1) * wanted // count) > 0
    return held


def can_be_read(path: Path, channels: int) -> bool:
    """Whether a file holds a readable picture."""
    try:
        read_picture(path, channels)
    except UsageError:
        return False
    return True
