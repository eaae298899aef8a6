"""Sets of finished images that are judged or judged against: folders, arrays, data sets.

Their order is that of a hash of their pixels, so that names and order of files change no figure.
"""

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nextscale.data import fashion_mnist
from nextscale.data.augment import Augmentation
from nextscale.data.listing import find_files
from nextscale.errors import UsageError
from nextscale.pictures.pixels import crop_to, is_grey, turned, upright
from nextscale.pictures.reading import open_picture, unreadable
from nextscale.scales import Scale, describe
from nextscale.storage.arrays import read_npz

Pixels = NDArray[np.uint8]
SPLITS = {"fashion-mnist": "validation", "fashion-mnist:train": "train"}  # by name, to their part
TEST_SPLIT = "fashion-mnist:test"
DIGEST = 16  # bytes
GREY = 32  # images that are looked at for colour


class RawImages(Protocol):
    """Images by number, as they lie somewhere."""

    def __len__(self) -> int: ...

    def load(self, number: int) -> Image.Image:
        """One picture. Raises UsageError if it cannot be read."""
        ...


class ImageSet:
    """Images of one size, ordered by their pixels.

    Args:
        raw: where they lie.
        name: for messages.
        channels: 1 or 3; pictures are converted.
        size: (height, width) to which pictures are resized and cropped; None leaves them.
        limit: number of images to take, the first in their own order; 0 is all.

    Attributes:
        identity: of the pixels, whatever their names.
        size: (height, width).

    Raises:
        UsageError: if there are none, one cannot be read, or their sizes differ.
    """

    def __init__(
        self, raw: RawImages, name: str, channels: int, size: Scale | None = None, limit: int = 0
    ) -> None:
        self.raw, self.channels, self.wanted = raw, channels, size
        count = min(len(raw), limit or len(raw))
        if count == 0:
            raise UsageError(f"{name} holds no images")
        sizes: dict[Scale, int] = {}
        digests = []
        for number in range(count):
            pixels = self.pixels_of(number)
            height, width = pixels.shape[:2]
            sizes.setdefault((height, width), number)
            if len(sizes) > 1:
                raise UsageError(
                    f"{name} holds images of mixed sizes ({describe(tuple(sizes))}); give --size "
                    "to resize and crop them"
                )
            digests.append(digest(pixels))
        (self.size,) = sizes
        self.order = sorted(range(count), key=digests.__getitem__)
        joined = b"".join(sorted(digests))
        self.identity = hashlib.sha256(b"%d" % channels + joined).hexdigest()[: 2 * DIGEST]

    def __len__(self) -> int:
        return len(self.order)

    def grey(self) -> bool:
        """Whether the first images, as they lie there, have no colour."""
        return all(is_grey(self.raw.load(number)) for number in range(min(len(self), GREY)))

    def load(self, begin: int, end: int) -> Pixels:
        """Pixels uint8 (end - begin, H, W, channels)."""
        return np.stack([self.pixels_of(number) for number in self.order[begin:end]])

    def pixels_of(self, number: int) -> Pixels:
        """Pixels uint8 (H, W, channels) of a raw image."""
        picture = upright(self.raw.load(number), self.channels)
        if self.wanted is not None:
            picture = crop_to(picture, *self.wanted)
        return np.asarray(picture).reshape(picture.height, picture.width, self.channels)


class FolderImages:
    """All image files below a folder, without overviews of sampled images.

    Attributes:
        empty: folders that hold no image, as of a class without samples.
    """

    def __init__(self, folder: Path) -> None:
        found = find_files(folder)
        self.empty = tuple(str(folder / name) for name in found.empty)
        names = sorted((path for path, _, _ in found.files), key=lambda path: path.split("/"))
        self.paths = [folder / name for name in names]

    def thin_to(self, count: int) -> None:
        """Keeps at most this number of images, evenly spaced in the order of folders and names."""
        if count < len(self.paths):
            self.paths = [self.paths[i * len(self.paths) // count] for i in range(count)]

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, number: int) -> Image.Image:
        """One picture. Raises UsageError if it cannot be read."""
        path = self.paths[number]
        try:
            with open_picture(path) as picture:
                return turned(picture)
        except MemoryError:
            raise  # the machine's fault, not the file's
        except Exception as error:  # Pillow's readers raise nearly anything at broken bytes
            raise unreadable(path, error) from error


class ArrayImages:
    """Images of an array uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3)."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels[..., 0] if pixels.ndim == 4 and pixels.shape[-1] == 1 else pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, number: int) -> Image.Image:
        """One picture."""
        return Image.fromarray(self.pixels[number])


def open_raw(name: str, root: str = "") -> RawImages:
    """Images of a data set's split, a folder, or the `arr_0` of an `.npz` file.

    Args:
        name: `fashion-mnist` or `fashion-mnist:test` (its test images), `fashion-mnist:train`, or
            a path.
        root: where the data set lies; see `data.fashion_mnist.find`.

    Raises:
        UsageError: if there is nothing, or something else.
    """
    part = SPLITS.get(name.replace(TEST_SPLIT, "fashion-mnist"))
    if part is not None:
        plain = Augmentation((28, 28), 1, "plain", False, 0)
        return ArrayImages(fashion_mnist.FashionMNIST(fashion_mnist.find(root), part, plain).images)
    path = Path(name)
    if name and path.is_dir():
        return FolderImages(path)
    if is_array(path):
        arrays = read_npz(path)
        if "arr_0" not in arrays:
            raise UsageError(f"{path} holds no arr_0 with images")
        pixels = arrays["arr_0"]()
        shape = pixels.shape
        if pixels.dtype != np.uint8 or not (
            len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3))
        ):
            raise UsageError(
                f"{path} holds {pixels.dtype} {shape} as arr_0; uint8 (N, H, W, 1 or 3) is needed"
            )
        return ArrayImages(pixels)
    if name and not path.exists():
        raise UsageError(f"there is no {name}; give a folder, an .npz file, or {', '.join(SPLITS)}")
    raise UsageError(f"no images at {name!r}; give a folder, an .npz file, or {', '.join(SPLITS)}")


def is_array(path: Path) -> bool:
    """Whether this is a file of numpy arrays."""
    return path.suffix == ".npz" and path.is_file()


def digest(pixels: Pixels) -> bytes:
    """Hash of one image's pixels, which orders a set."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=DIGEST).digest()
