"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747): 70 000 grey 28×28 pictures.

The four published files are read from disk or downloaded, and kept in memory as 8-bit pixels.
"""

import contextlib
import gzip
import hashlib
import io
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nextscale.config.run import DataConfig
from nextscale.data.augment import FLIP_RATE, Augmentation
from nextscale.data.images import Batch
from nextscale.data.order import Part
from nextscale.data.record import Record
from nextscale.errors import UsageError, to_install
from nextscale.pictures.pixels import to_tensor
from nextscale.storage.files import cache_folder

NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PACKAGED = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
PARTS = {"train": "train", "validation": "t10k"}
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
FILES = tuple(f"{part}-{kind}" for part in PARTS.values() for kind in (IMAGES, LABELS))
MAGIC = {IMAGES: 0x0803, LABELS: 0x0801}  # IDX format: unsigned bytes and the number of dimensions


class FashionMNIST:
    """A `Source` of the 60 000 training or the 10 000 test images.

    Args:
        directory: holds the four files, as `find` returns it.
        part: `train`, or `validation` for the test images.
        augmentation: applied to every image.

    Attributes:
        names: of the ten classes.
        identity: of the pixels and their augmentation.
        images: uint8 (N, 28, 28).
        labels: int64 (N,).

    Raises:
        UsageError: if a file is broken.
    """

    reads_files = False

    def __init__(self, directory: Path, part: str, augmentation: Augmentation) -> None:
        self.images = read_idx(directory, f"{PARTS[part]}-{IMAGES}")
        self.labels = read_idx(directory, f"{PARTS[part]}-{LABELS}").astype(np.int64)
        if len(self.images) != len(self.labels) or self.labels.max(initial=0) >= len(NAMES):
            raise UsageError(f"{directory} does not hold Fashion-MNIST: images and labels disagree")
        self.augmentation = augmentation
        self.names: tuple[str, ...] = NAMES
        pixels = hashlib.sha256(self.images.tobytes()).hexdigest()
        self.known_as = f"fashion-mnist {part} {pixels[:16]}"
        self.identity: str = f"{self.known_as} {augmentation.identity}"

    @property
    def record(self) -> Record:
        """The class names and a hash of the pixels."""
        return Record(NAMES, pixels=self.known_as)

    def __len__(self) -> int:
        return len(self.images)

    def load(self, part: Part) -> Batch:
        """Images and labels; nothing is ever skipped."""
        pixels = self.images[part.samples]  # (B, 28, 28)
        augmentation = self.augmentation
        draws = augmentation.draws(part.epoch, part.samples)  # (B, 3)
        if augmentation.kind == "plain" and augmentation.size == pixels.shape[1:]:
            if augmentation.flip:
                mirrored = draws[:, 2] < FLIP_RATE
                pixels[mirrored] = pixels[mirrored, :, ::-1]
            images = to_tensor(pixels, augmentation.channels)
        else:
            pictures = [Image.fromarray(image) for image in pixels]
            varied = [augmentation.apply(p, d) for p, d in zip(pictures, draws, strict=True)]
            images = to_tensor(varied, augmentation.channels)
        return Batch(part=part, images=images, labels=torch.from_numpy(self.labels[part.samples]))


def find(root: str = "") -> Path:
    """Finds the directory of the four files: `root`, Debian's package, the cache, or a download.

    Raises:
        UsageError: if the files are in none of these places and cannot be downloaded.
    """
    given = [Path(root), Path(root) / "FashionMNIST" / "raw"] if root else []
    for directory in (*given, PACKAGED, cache()):
        if all(locate(directory, name) for name in FILES):
            return directory
    return download(cache())


def cache() -> Path:
    """Directory of a downloaded copy."""
    return cache_folder("fashion-mnist")


def locate(directory: Path, name: str) -> Path | None:
    """Path of one of the four files, compressed or not; None if it is missing."""
    candidates = (directory / f"{name}.gz", directory / name)
    return next((path for path in candidates if path.is_file()), None)


def download(directory: Path) -> Path:
    """Downloads the four files with torchvision and moves them into the directory.

    Raises:
        UsageError: if torchvision is not installed or its servers cannot be reached.
    """
    advice = "give the directory of its four .gz files as --data.root"
    try:
        from torchvision.datasets import FashionMNIST as Published
    except ImportError as error:
        raise UsageError(
            "Fashion-MNIST is not on this machine, and torchvision, which fetches it, is not "
            f"installed; {to_install('train')}; or {advice}"
        ) from error
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=directory.parent) as beside,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            Published(beside, download=True)
            directory.mkdir(exist_ok=True)
            for name in FILES:
                path = Path(beside) / "FashionMNIST" / "raw" / f"{name}.gz"
                path.replace(directory / path.name)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"Fashion-MNIST cannot be downloaded ({reason}); {advice}") from error
    return directory


def read_idx(directory: Path, name: str) -> NDArray[np.uint8]:
    """Reads the uint8 array in one of the four files.

    Raises:
        UsageError: if the file is missing, truncated or of another kind.
    """
    path = locate(directory, name)
    if path is None:
        raise UsageError(f"{directory} has no {name}.gz")
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        magic = int(np.frombuffer(data, ">u4", 1)[0])
        if magic != MAGIC[name.split("-", 1)[1]]:
            raise ValueError("another kind of file")
        shape = np.frombuffer(data, ">u4", magic % 256, offset=4)  # the last byte counts dimensions
        pixels = np.frombuffer(data, np.uint8, offset=4 + shape.nbytes)
        return pixels.reshape(shape.astype(np.int64))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UsageError(f"{path} is not a whole Fashion-MNIST file ({error})") from error


def open_splits(
    config: DataConfig, augmentation: Augmentation
) -> tuple[FashionMNIST, FashionMNIST]:
    """Training images, augmented, and validation images; `config.root` is where they lie."""
    directory = find(config.root)
    return (
        FashionMNIST(directory, "train", augmentation),
        FashionMNIST(directory, "validation", augmentation.unvaried()),
    )
