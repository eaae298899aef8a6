"""Folders of images in the ImageNet layout, with or without classes.

Every file is decoded when it is asked for; what cannot be read is replaced by its neighbour.
"""

import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nextscale.data.augment import Augmentation
from nextscale.data.order import Samples
from nextscale.errors import UsageError
from nextscale.pixels import to_tensor, upright

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
# What `nextscale sample` and `edit` write beside their images, by the file that tells of these.
SHEETS = {"samples.json": ("grid.png", "growing.gif"), "edits.json": ("sheet.png",)}
CLASSES_SHOWN = 5  # in a message
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # none runs a program


@dataclass(frozen=True)
class Listing:
    """Image files below a folder, as arrays, since there may be millions.

    Attributes:
        folder: where the paths start.
        names: of the classes, sorted; empty if unlabelled.
        paths: with slashes, bytes (N,), sorted by class and then by name.
        sizes: of the files in bytes, int64 (N,).
        labels: int64 (N,); 0 if unlabelled.
    """

    folder: Path
    names: tuple[str, ...]
    paths: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, chosen: NDArray[np.bool_]) -> "Listing":
        """The chosen files, with all classes."""
        return Listing(
            self.folder, self.names, self.paths[chosen], self.sizes[chosen], self.labels[chosen]
        )

    def path(self, number: int) -> Path:
        """Where a file lies."""
        return self.folder / os.fsdecode(bytes(self.paths[number]))

    def digest(self) -> str:
        """Tells these files (class, path and size) apart from others, wherever the folder lies."""
        digest = hashlib.sha256(os.fsencode("\n".join(self.names)))
        for path, size in zip(self.paths, self.sizes, strict=True):
            digest.update(b"\0%b\0%d" % (path, size))
        return digest.hexdigest()[:32]


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

    def __len__(self) -> int:
        return len(self.listing)

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.listing.labels

    def load(self, epoch: int, samples: Samples) -> tuple[Tensor, Tensor, int]:
        """Images (B, channels, h, w) in [-1, 1], labels (B,), and how many were replaced.

        A replacement is the next file that can be read; it is varied by the draws of the sample
        that it stands for.

        Raises:
            UsageError: at an unreadable file if strict, or if no file can be read.
        """
        draws = self.augmentation.draws(epoch, samples)  # (B, 3)
        taken = np.empty(len(samples), np.int64)
        pictures = []
        for i, sample in enumerate(samples):
            taken[i], picture = self.readable(int(sample))
            pictures.append(self.augmentation.apply(picture, draws[i]))
        images = to_tensor(pictures, self.augmentation.channels)
        return images, torch.from_numpy(self.listing.labels[taken]), int((taken != samples).sum())

    def readable(self, sample: int) -> tuple[int, Image.Image]:
        """The sample, or the next one that can be read (after the last comes the first).

        Raises:
            UsageError: as `load`.
        """
        for candidate in range(sample, sample + len(self)):
            number = candidate % len(self)
            path = self.listing.path(number)
            try:
                return number, decode(path, self.augmentation.channels)
            except MemoryError:
                raise  # the machine's fault, not the file's
            except Exception as error:  # Pillow's readers raise nearly anything at broken bytes
                if self.strict:
                    reason = " ".join(str(error).split())
                    raise UsageError(
                        f"{path} cannot be read ({reason}); mend or remove it, or leave out "
                        "strict to skip such files"
                    ) from error
        raise UsageError(
            f"none of the {len(self)} image files in {self.listing.folder} can be read"
        )


def open_folder(
    root: Path, augmentation: Augmentation, validation: float, strict: bool = False
) -> tuple[ImageFolder, ImageFolder]:
    """Training and validation images of a folder; the latter are not augmented.

    Layouts: `train/CLASS/*` and `val/CLASS/*`; `train/*` and `val/*` (unlabelled); `CLASS/*`;
    plain files (unlabelled). Files may lie deeper below a class. Without `val/` a part is split
    off by the augmentation's seed.

    Args:
        validation: share split off, at least one image.
        strict: as `ImageFolder`.

    Raises:
        UsageError: if the folder is missing, empty, ambiguous or unreadable, or if `val/` has
            classes that `train/` lacks.
    """
    folder = training_folder(root)
    training = scan(folder)
    if folder != root and (root / "val").is_dir():
        held_out = with_classes_of(training, scan(root / "val"))
    else:
        held = hold_out(training, validation, augmentation, strict)
        training, held_out = training.part(~held), training.part(held)
    return (
        ImageFolder(training, augmentation, strict),
        ImageFolder(held_out, augmentation.unvaried(), strict),
    )


def training_folder(root: Path) -> Path:
    """`train/` if the folder has it, else the folder itself.

    Raises:
        UsageError: if the folder is missing, or `train` or `val` may be meant as a class.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder; give a folder of images")
    try:
        entries = [entry for entry in os.scandir(root) if not entry.name.startswith(".")]
    except OSError as error:
        raise UsageError(f"{root} cannot be listed ({error.strerror})") from error
    folders = {entry.name for entry in entries if entry.is_dir()}
    if "train" in folders and ("val" in folders or folders <= {"train", "test"}):
        return root / "train"
    if folders & {"train", "val"}:
        raise UsageError(
            f"{root} has the folders {', '.join(sorted(folders)[:10])}; give train/ and val/, or "
            "train/ alone, or classes of other names"
        )
    return root


def scan(folder: Path) -> Listing:
    """Lists a part; its folders are the classes, unless the images lie in it plainly.

    Raises:
        UsageError: if it holds no image files, or both plain images and folders of images.
    """
    try:
        files = sorted(image_files(folder), key=lambda file: file[0].split("/"))
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be listed ({error.strerror})") from error
    if not files:
        known = " ".join(extension[1:] for extension in EXTENSIONS)
        raise UsageError(f"{folder} holds no images; known are {known}")
    paths = [path for path, _ in files]
    labelled = "/" in paths[0]
    plain = next((path for path in paths if ("/" in path) != labelled), None)
    if plain is not None:
        raise UsageError(
            f"{folder} holds both images ({plain if labelled else paths[0]}) and folders of "
            "images; move every image into the folder of its class"
        )
    classes = [path.split("/", 1)[0] for path in paths] if labelled else []
    names = tuple(sorted(set(classes)))
    number = {name: i for i, name in enumerate(names)}
    labels = [number[name] for name in classes] if labelled else [0] * len(paths)
    return Listing(
        folder,
        names,
        np.array([os.fsencode(path) for path in paths], np.bytes_),
        np.array([size for _, size in files], np.int64),
        np.array(labels, np.int64),
    )


def sheets(names: Collection[str]) -> list[str]:
    """Overviews that lie beside drawn images, given the names of all files of a folder."""
    return [sheet for record, beside in SHEETS.items() if record in names for sheet in beside]


def image_files(folder: Path) -> Iterator[tuple[str, int]]:
    """Paths below a folder, with slashes, and sizes in bytes; links are followed, but not around.

    Hidden files and folders are left out, and overviews of drawn images. A link to nothing is
    listed with size 0, so that it is counted among the files that cannot be read.

    Raises:
        OSError: if a folder cannot be listed.
    """
    waiting = [("", frozenset({folder.resolve()}))]
    while waiting:
        below, above = waiting.pop()
        entries = list(os.scandir(folder / below))
        overviews = sheets([entry.name for entry in entries])
        for entry in entries:
            path = f"{below}{entry.name}"
            if entry.name.startswith(".") or entry.name in overviews:
                continue
            if entry.is_dir():
                target = Path(entry.path).resolve()
                if target not in above:
                    waiting.append((f"{path}/", above | {target}))
            elif entry.name.lower().endswith(EXTENSIONS):
                if entry.is_file():
                    yield path, entry.stat().st_size
                elif entry.is_symlink():
                    yield path, 0


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
    labels = numbers[held_out.labels]
    return Listing(held_out.folder, training.names, held_out.paths, held_out.sizes, labels)


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


def split(listing: Listing, share: float, seed: int) -> NDArray[np.bool_]:
    """Which files are held out for validation, bool (N,).

    Files are put in an order by class and then by a hash of seed and path, and taken from it at
    even distances; so each class gives its share, and nothing but names and seed decides.

    Raises:
        UsageError: if there are fewer than two files.
    """
    count = len(listing)
    if count < 2:
        raise UsageError(
            f"{listing.folder} holds fewer than 2 images that can be read; give at least 2, to "
            "train and to validate"
        )
    wanted = min(max(round(share * count), 1), count - 1)
    keys = [hashlib.sha256(b"%d/%b" % (seed, path)).digest()[:8] for path in listing.paths]
    order = np.lexsort((np.frombuffer(b"".join(keys), np.uint64), listing.labels))
    held = np.zeros(count, np.bool_)
    held[order] = np.diff(np.arange(count + 1) * wanted // count) > 0
    return held


def decode(path: Path, channels: int) -> Image.Image:
    """The upright picture in a file, as L for 1 channel and RGB for 3; what is clear is white.

    Raises:
        Exception: of nearly any type, if the file is broken.
    """
    with Image.open(path, formats=FORMATS) as picture:
        return upright(picture, channels)


def can_be_read(path: Path, channels: int) -> bool:
    """Whether a file holds a picture."""
    try:
        decode(path, channels)
    except MemoryError:
        raise  # the machine's fault, not the file's
    except Exception:  # Pillow's readers raise nearly anything at broken bytes
        return False
    return True
