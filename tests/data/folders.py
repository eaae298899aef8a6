"""Folders of pictures for tests, and what a source reads from them."""

import os

import numpy as np
from PIL import Image

from nextscale.data.augment import Augmentation
from nextscale.data.folder import open_folder
from nextscale.data.order import Part

PLAIN = Augmentation((8, 8), 3)


def picture(number, size=(12, 10)):
    """Noise that differs from number to number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def write(root, *names):
    """Different pictures under the given names."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(root / name)
    return root


def all_of(source, epoch=0):
    return source.load(Part(epoch, np.arange(len(source))))


def paths(source):
    return [os.fsdecode(bytes(path)) for path in source.listing.paths]


def opened(root, augmentation=PLAIN, validation=0.05, strict=False):
    return open_folder(root, augmentation, validation, strict)


def zero_bytes(path):
    path.write_bytes(b"")
