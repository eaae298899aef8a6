"""Turns a picture into a training image: resizes, crops and mirrors it by given random draws.

`released` is the augmentation of the released VAR models and `plain` that of evaluation. `shift`
keeps the size of objects like `plain`, as training a classifier for plain images requires.
"""

from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nextscale.data.order import Samples, uniforms
from nextscale.pictures.pixels import cover, crop_to

Kind = Literal["released", "plain", "shift"]

ENLARGED = 1.125  # released VAR models: size before the random crop over the size after it
SHIFTED = 14  # `shift` moves by at most a fourteenth of a side, two pixels of 28
DRAWS = 3  # a sample: vertical position, horizontal position, mirroring
FLIP_RATE = 0.5


@dataclass(frozen=True)
class Augmentation:
    """How a source augments its pictures; equal augmentations give equal pixels.

    Attributes:
        size: (height, width) of the images.
        channels: 1 or 3.
        kind: of crop; see `augment`.
        flip: whether half of the images are mirrored.
        seed: of the draws.
    """

    size: tuple[int, int]
    channels: int
    kind: Kind = "plain"
    flip: bool = False
    seed: int = 0

    @property
    def varies(self) -> bool:
        """Whether a picture looks different from epoch to epoch."""
        return self.flip or self.kind != "plain"

    @property
    def identity(self) -> str:
        """Names everything that determines pixels; the seed only if draws are used."""
        height, width = self.size
        drawn = f" flip={self.flip} seed={self.seed}" if self.varies else ""
        return f"{height}x{width}x{self.channels} {self.kind}{drawn}"

    def unvaried(self) -> "Augmentation":
        """The same size without random draws, for validation."""
        return replace(self, kind="plain", flip=False)

    def draws(self, epoch: int, samples: Samples) -> NDArray[np.float64]:
        """Uniform draws (samples, 3) of an epoch, for `augment`."""
        return uniforms(self.seed, epoch, samples, DRAWS)

    def apply(self, picture: Image.Image, draws: NDArray[np.float64]) -> Image.Image:
        """Augments a picture with its draws (3,)."""
        return augment(picture, self.size, self.kind, self.flip, draws)


def augment(
    picture: Image.Image,
    size: tuple[int, int],
    kind: Kind,
    flip: bool,
    draws: NDArray[np.float64],
) -> Image.Image:
    """Resizes and crops a picture, and mirrors it if `flip` and the draw say so.

    Args:
        size: (height, width) of the result.
        kind: `released` enlarges until the picture covers 1.125 of the size and crops where the
            draws say; `plain` covers the size and crops the centre; `shift` moves that crop
            and fills the border with black.
        flip: mirror where the last draw is below one half.
        draws: uniform in [0, 1), (3,): vertical position, horizontal position, mirroring.
    """
    height, width = size
    if kind == "released":
        enlarged = cover(picture, round(ENLARGED * height), round(ENLARGED * width))
        top = int(draws[0] * (enlarged.height - height + 1))
        left = int(draws[1] * (enlarged.width - width + 1))
        cropped = cast(Image.Image, enlarged.crop((left, top, left + width, top + height)))
    else:
        cropped = crop_to(picture, *size)
    if kind == "shift":
        top = shift(draws[0], height // SHIFTED)
        left = shift(draws[1], width // SHIFTED)
        cropped = cast(Image.Image, cropped.crop((left, top, left + width, top + height)))
    if flip and draws[2] < FLIP_RATE:
        return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return cropped


def shift(draw: float, most: int) -> int:
    """Maps a draw in [0, 1) to an integer from -most to most."""
    return int(draw * (2 * most + 1)) - most
