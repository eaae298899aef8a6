"""Folders of images in the ImageNet layout, with or without classes.

Every file is decoded when it is asked for; what cannot be read is replaced by its neighbour.
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
        strict: raise at a file that cannot be read instead of taking the next readable one.

    Attributes:
        names: of the classes; empty if unlabelled, and then every label is 0.
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
        """The files, for a run and its caches to remember."""
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
        """The sample, or the next one that can be read (after the last comes the first).

        Raises:
            UsageError: as `load`.
        """
        first = ""
        for candidate in range(sample, sample + len(self)):
            number = candidate % len(self)
            path = self.listing.path(number)
            try:
                return number, decode(path, self.augmentation.channels)
            except MemoryError:
                raise  # the machine's fault, not the file's
            except Exception as error:  # Pillow's readers raise nearly anything at broken bytes
                first = first or f"{path.name}: {reason_of(error)}"
                if self.strict:
                    raise UsageError(
                        f"{path} cannot be read ({reason_of(error)}); mend or remove it, or leave "
                        "out strict to skip such files"
                    ) from error
        raise UsageError(
            f"none of the {len(self)} image files in {self.listing.folder} can be read ({first})"
        )


def open_folder(
    root: Path, augmentation: Augmentation, validation: float, strict: bool = False
) -> tuple[ImageFolder, ImageFolder]:
    """Training and validation images of a folder; the latter are not augmented.

    Layouts: `train/CLASS/*` and `val/CLASS/*`; `train/*` and `val/*` (unlabelled); `CLASS/*`;
    plain files (unlabelled); see `find_layout` for other names. Files may lie deeper below a class.
    Without `val/` a part is split off by the augmentation's seed.

    Args:
        validation: share split off, at least one image.
        strict: as `ImageFolder`.

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
    """The held-out files with labels that count the training classes.

    Raises:
        UsageError: if they have other classes, or only one of the two is labelled.
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
    """Which files are held out, bool (N,): of `split`, but at least one of them can be read.

    Broken files that the split held out alone go to the training part, which counts them.

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
    """The error about a folder of which no image can be held out."""
    return UsageError(
        f"{folder} holds fewer than 2 images that can be read; give at least 2, to train and to "
        "validate"
    )


def split(listing: Listing, share: float, seed: int) -> NDArray[np.bool_]:
    """Which files are held out for validation, bool (N,).

    Files are put in an order by class and then by a hash of seed and path, and taken from it at
    even distances; so each class gives its share, and nothing but names and seed decides.

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
    """Whether a file holds a picture."""
    try:
        read_picture(path, channels)
    except UsageError:
        return False
    return True
