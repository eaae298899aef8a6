"""What users mark to be redrawn: a picture, an array, a box or transparency, white meaning redraw.

The library inside has it the other way round: 1 keeps.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from nextscale.errors import UsageError
from nextscale.pictures.pixels import crop_to, to_mode
from nextscale.scales import Scale, describe

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the picture
Mask = Image.Image | NDArray[np.generic] | Tensor | Box
Masks = Mask | list[Mask | None] | None  # for all pictures, or one each


def keep_of(mask: Mask | None, picture: Image.Image, size: Scale, finest: Scale) -> Tensor:
    """What of a picture is kept, float (h, w) from 0 (redraw) to 1 (keep).

    Args:
        mask: a picture, of which white is redrawn; an array (h, w), of bools, of integers up to
            255 or of floats up to 1; a box, whose inside is redrawn; None takes the picture's
            transparency. Pictures and arrays have the size of the picture, and are resized and cut
            with it, or of the finest scale.
        size: (H, W) of the model's images, which the result has, unless it has the finest scale's.
        finest: (h, w) of the finest scale.

    Raises:
        UsageError: if the mask does not fit, or all or nothing is to be redrawn.
    """
    upright = ImageOps.exif_transpose(picture)
    white = marked(mask, upright)
    sides = (white.height, white.width)
    if sides != finest or upright.size == white.size:
        if white.size != upright.size:
            raise UsageError(
                f"the mask has {white.width}x{white.height} pixels and the image "
                f"{upright.width}x{upright.height}; both must have one size, or the mask that of "
                f"the finest scale, {describe((finest,))}"
            )
        white = crop_to(white, *size)
    keep = 1 - torch.from_numpy(np.asarray(white, np.float32) / 255)
    if bool((keep == 1).all()):
        raise UsageError(
            "the mask is empty: nothing of what is left of the image is white, or inside the box"
        )
    if bool((keep == 0).all()):
        raise UsageError(
            "the mask is full: all of what is left of the image is white, so nothing is kept"
        )
    return keep


def marked(mask: Mask | None, picture: Image.Image) -> Image.Image:
    """What users mark as a picture of mode L, white where it is to be redrawn."""
    if mask is None:
        if "A" not in picture.getbands() and "transparency" not in picture.info:
            told = "no mask is given, and nothing of the image is transparent; give a mask or a box"
            raise UsageError(told)
        return picture.convert("RGBA").getchannel("A").point(lambda value: 255 - value)
    if isinstance(mask, Image.Image):
        return on_black(ImageOps.exif_transpose(mask))
    if isinstance(mask, Tensor):
        mask = mask.detach().cpu().numpy()
    if not isinstance(mask, np.ndarray | tuple):
        raise UsageError(f"the mask is a {type(mask).__name__}; give a picture, an array or a box")
    if isinstance(mask, np.ndarray):
        return of_array(mask)
    return of_box(mask, picture)


def on_black(mask: Image.Image) -> Image.Image:
    """A mask as a picture of mode L; where it is transparent nothing is marked."""
    if "A" not in mask.getbands():
        return to_mode(mask, "L")
    layer = mask.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer).convert("L")


def of_array(mask: NDArray[np.generic]) -> Image.Image:
    """An array (h, w) as a picture."""
    if mask.ndim != 2 or 0 in mask.shape:
        raise UsageError(f"the mask has the shape {mask.shape}; (height, width) is needed")
    most = 255 if mask.dtype.kind in "iu" and mask.max() > 1 else 1
    if mask.dtype.kind not in "biuf" or not 0 <= mask.min() <= mask.max() <= most:
        raise UsageError("the mask's values must be bools, integers to 255 or floats to 1")
    return Image.fromarray((mask.astype(np.float64) * 255 / most).round().astype(np.uint8))


def of_box(box: Sequence[int], picture: Image.Image) -> Image.Image:
    """A box as a picture of the given one's size."""
    check_box(box, picture.width, picture.height)
    white = Image.new("L", picture.size, 0)
    left, top, right, bottom = box
    white.paste(255, (left, top, right, bottom))
    return white


def check_box(box: Sequence[int], width: int, height: int) -> None:
    """Raises UsageError unless a box has an area inside of an image of this size."""
    if len(box) != 4:
        raise UsageError(f"the box has {len(box)} numbers; left, top, right and bottom are needed")
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise UsageError(
            f"the box {left} {top} {right} {bottom} (left, top, right, bottom) does not lie in the "
            f"image of {width}x{height} pixels"
        )
