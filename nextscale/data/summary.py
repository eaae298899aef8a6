"""Describes the data of a training before it starts: images, classes, sizes, ignored files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nextscale.config.run import DataConfig
from nextscale.data.fashion_mnist import FashionMNIST
from nextscale.data.folder import ImageFolder
from nextscale.data.images import Share, Source
from nextscale.data.layout import find_layout
from nextscale.data.listing import Listing, left_out
from nextscale.pictures.pixels import is_grey, turned
from nextscale.pictures.reading import open_picture

SIZED = 2000  # files whose size is read
DECODED = 32  # files whose colours are examined
SHOWN = 3  # folders, in a line


@dataclass(frozen=True)
class Look:
    """Findings on some of the image files.

    Attributes:
        sizes: int64 (n, 2), height and width in pixels.
        unreadable: files that cannot be opened.
        grey: number of grey pictures among those decoded.
        decoded: number of pictures whose colours were examined.
    """

    sizes: NDArray[np.int64]
    unreadable: int
    grey: int
    decoded: int


def summary(
    config: DataConfig,
    training: Source,
    validation: Source,
    size: tuple[int, int],
    channels: int,
) -> list[str]:
    """Lines on the data of a training, as `open_data` returns it.

    Args:
        config: of the data.
        training, validation: both parts.
        size: (height, width) of the images that the network takes.
        channels: of these images.
    """
    whole = training.source if isinstance(training, Share) else training
    if not isinstance(whole, ImageFolder):  # a data set with a name
        lines = [f"data: {config.path}, {images_of(whole.labels, whole.names)}"]
        known = isinstance(whole, FashionMNIST)
        held = f"held out: {counted(len(validation), 'test image' if known else 'image')}"
        kinds = [grey_note(True, True, channels)] if known else []
    else:
        assert isinstance(validation, ImageFolder)
        listing, held_out = whole.listing, validation.listing
        layout, seen = find_layout(Path(config.path)), look(listing)
        lines = [f"data: {listing.folder}, {images_of(listing.labels, listing.names)}"]
        split_off = f"split off by the seed ({config.validation:g} of all)"
        held = f"held out: {counted(len(validation), 'image')}"
        held += f" in {layout.held_out}" if layout.held_out else f", {split_off}"
        kinds = [
            *left_out_lines(listing, held_out if layout.held_out else None),
            *([f"not used: {some(layout.unused)} in {layout.root}"] if layout.unused else []),
            *([f"beside them: {left_out(layout.left_out)}"] if layout.left_out else []),
            *single_class(listing),
            sizes_line(seen, size, len(listing)),
            grey_note(seen.grey > 0, seen.grey == seen.decoded, channels) if seen.decoded else "",
        ]
    if isinstance(training, Share):
        lines.append(
            f"used of these: {counted(len(training), 'image')} (data.share {config.share:g})"
        )
    return [*lines, held, *filter(None, kinds)]


def images_of(labels: NDArray[np.int64], names: Sequence[str]) -> str:
    """Number of images, and the sizes of the smallest and the largest class."""
    images = counted(len(labels), "image")
    if not names:
        return f"{images} without classes"
    if len(names) == 1:
        return f"{images} in the class {names[0]}"
    counts = np.bincount(labels, minlength=len(names))
    least, most = int(counts.argmin()), int(counts.argmax())
    each = f"{counts[least]:,} ({names[least]}) to {counts[most]:,} ({names[most]})"
    if counts[least] == counts[most]:
        each = f"{counts[least]:,} each"
    return f"{images} in {len(names):,} classes, {each}"


def left_out_lines(listing: Listing, held_out: Listing | None) -> list[str]:
    """Lines on ignored files by ending, and on folders without images."""
    lines = []
    for part in (listing, held_out):
        if part is None:
            continue
        if part.left_out:
            lines.append(f"left out in {part.folder}: {left_out(part.left_out)}")
        if part.empty:
            lines.append(f"no images and so no class in {part.folder}: {some(part.empty)}")
    return lines


def single_class(listing: Listing) -> list[str]:
    """A line if the only class looks like a folder that contains the classes."""
    inner = {bytes(path).split(b"/")[1] for path in listing.paths if path.count(b"/") > 1}
    if len(listing.names) != 1 or len(inner) < 2:
        return []
    place = listing.folder / listing.names[0]
    return [f"all images are in one class; if its folders are the classes, give {place}"]


def look(listing: Listing) -> Look:
    """Examines evenly spaced files of a listing; sizes are read without decoding."""
    sizes, unreadable = [], 0
    for number in spread(len(listing), SIZED):
        try:
            with open_picture(listing.path(number)) as picture:
                sizes.append((picture.height, picture.width))
        except MemoryError:
            raise  # not a fault of the file
        except Exception:  # Pillow raises many types for damaged files
            unreadable += 1
    colours = [grey_of(listing.path(number)) for number in spread(len(listing), DECODED)]
    known = [grey for grey in colours if grey is not None]
    return Look(np.array(sizes, np.int64).reshape(-1, 2), unreadable, sum(known), len(known))


def spread(count: int, most: int) -> list[int]:
    """Returns at most `most` numbers from 0 to count - 1, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()


def grey_of(path: Path) -> bool | None:
    """Whether a file's picture is grey; None if it cannot be read."""
    try:
        with open_picture(path) as picture:
            return is_grey(turned(picture))
    except MemoryError:
        raise
    except Exception:  # as in `look`
        return None


def sizes_line(seen: Look, size: tuple[int, int], count: int) -> str:
    """A line on the sizes, the files that are smaller than the images, and unreadable files."""
    looked = len(seen.sizes) + seen.unreadable
    of = f" of {looked:,} looked at" if looked < count else ""
    broken = f"{counted(seen.unreadable, 'file')}{of} cannot be opened" if seen.unreadable else ""
    if not len(seen.sizes):
        return broken
    height, width = seen.sizes.T
    area = height * width
    least, most = int(area.argmin()), int(area.argmax())
    line = f"sizes: {width[least]}x{height[least]}"
    if area[least] != area[most]:
        line += f" to {width[most]}x{height[most]}"
    smaller = int(((height < size[0]) | (width < size[1])).sum())
    if smaller:
        line += f", {smaller:,}{of} smaller than {size[1]}x{size[0]} (enlarged)"
    return line + (f"; {broken}" if broken else "")


def grey_note(some_grey: bool, all_grey: bool, channels: int) -> str:
    """A line if images and network differ in colours; empty if they agree."""
    if channels == 3 and all_grey:
        return "the images are grey, the network is for colour: all three channels are equal"
    if channels == 1 and not all_grey:
        which = "some images" if some_grey else "the images"
        return f"{which} are in colour, the network is for grey: colours are left out"
    return ""


def counted(number: int, noun: str) -> str:
    """A count with its noun."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def some(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
