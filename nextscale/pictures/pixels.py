"""Pictures to tensors and back: modes, sizes and the range [-1, 1]. It knows no files."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from nextscale.errors import UsageError

LARGEST_SIDE = 16384  # pixels of a picture that someone hands in
CONVERT = "convert it to 8 bits, or to 16 unsigned ones"


def checked(picture: Image.Image, what: str = "the image") -> Image.Image:
    """A picture that someone hands in, read whole and turned as its EXIF data says.

    Args:
        picture: opened, perhaps not read yet.
        what: its name in error messages.

    Raises:
        UsageError: if it is animated, too large, too deep or broken.
    """
    animated = getattr(picture, "is_animated", False)
    if animated and picture.format != "MPO":  # a camera's photograph with further views
        raise UsageError(f"{what} is animated; give a single picture")
    if max(picture.size) > LARGEST_SIDE:
        raise UsageError(
            f"{what} has {picture.width}x{picture.height} pixels; at most {LARGEST_SIDE} a side "
            "are taken"
        )
    try:
        return turned(picture)
    except MemoryError:
        raise  # the machine's fault, not the picture's
    except Exception as error:  # Pillow's readers raise nearly anything at broken bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{what} cannot be read ({reason}); mend it or give another") from error


def upright(picture: Image.Image, channels: int) -> Image.Image:
    """A picture turned as its EXIF data says, as L for 1 channel and RGB for 3."""
    return to_mode(turned(picture), "L" if channels == 1 else "RGB")


def turned(picture: Image.Image) -> Image.Image:
    """A picture read whole and turned as its EXIF data says; damaged EXIF data says nothing.

    Raises:
        UsageError: if its numbers lie in no known range.
        Exception: of nearly any type, if its pixels are broken.
    """
    if picture.mode == "I" and picture.format == "TIFF":  # 32 bits, or 16 with a sign
        raise UsageError(f"its integers have no known range; {CONVERT}")
    picture.load()
    check_values(picture)
    try:
        return ImageOps.exif_transpose(picture)
    except MemoryError:
        raise
    except Exception:  # the pixels are read; Pillow's EXIF reader raises nearly anything
        return picture.copy()


def to_mode(picture: Image.Image, mode: str) -> Image.Image:
    """A picture of any depth, palette, inks or transparency as 8-bit L or RGB.

    Deep integers are taken as 16-bit grey; floats as grey up to 1, or, if any is larger, to 255.
    `turned` refuses what lies outside of these ranges.
    """
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.int32)
        picture = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    elif picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture))
        values = values * 255 if values.max() <= 1 else values
        picture = Image.fromarray(values.round().astype(np.uint8))
    elif picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    return picture.convert(mode)  # always a copy, which outlives the open file


def check_values(picture: Image.Image) -> None:
    """Raises UsageError if deep numbers lie in no known range; cut off, they would be flat.

    Integers range to 65535; floats to 1 or 255, and NaN is black.
    """
    if picture.mode == "F":
        kind, most, ranges = "floats", 255, "0 to 1 or 0 to 255"
    elif picture.mode.startswith("I"):
        kind, most, ranges = "integers", 65535, "0 to 65535"
    else:
        return
    values = np.asarray(picture)
    low, high = np.nanmin(values, initial=0), np.nanmax(values, initial=0)
    if low < 0 or high > most:
        raise UsageError(f"its {kind} go from {low:.6g} to {high:.6g}, not {ranges}; {CONVERT}")


def is_grey(picture: Image.Image) -> bool:
    """Whether no pixel of a picture has a colour."""
    colours = np.asarray(to_mode(picture, "RGB"))
    return bool((np.ptp(colours, axis=2) == 0).all())


def recoloured(grey: bool, channels: int) -> str:
    """What becomes of a picture's colours in a network for 1 or 3 channels; empty if nothing.

    Args:
        grey: whether the picture has none.
    """
    if grey == (channels == 1):
        return ""
    return "grey, repeated for three channels" if grey else "converted to grey"


def cover(picture: Image.Image, height: int, width: int) -> Image.Image:
    """Resizes, keeping proportions, to the smallest picture that covers height x width."""
    factor = max(height / picture.height, width / picture.width)
    size = (
        max(width, round(picture.width * factor)),
        max(height, round(picture.height * factor)),
    )
    return picture.resize(size, Image.Resampling.LANCZOS)


def crop_to(picture: Image.Image, height: int, width: int) -> Image.Image:
    """Resizes until the picture covers height x width and cuts out the centre."""
    if picture.size == (width, height):
        return picture
    covering = cover(picture, height, width)
    left, top = (covering.width - width) // 2, (covering.height - height) // 2
    return cast(Image.Image, covering.crop((left, top, left + width, top + height)))


def to_tensor(pixels: NDArray[np.uint8] | Sequence[Image.Image], channels: int) -> Tensor:
    """Images float32 (B, channels, h, w) in [-1, 1].

    Args:
        pixels: uint8 (B, h, w) or (B, h, w, 1 or 3), or pictures of mode L or RGB and one size.
        channels: 1 or 3; grey images are repeated for 3.
    """
    if not isinstance(pixels, np.ndarray):
        pixels = np.stack([np.asarray(picture, np.uint8) for picture in pixels])
    images = torch.from_numpy(np.array(pixels, np.uint8))  # a copy: it may be read-only
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    images = images.to(torch.float32, memory_format=torch.contiguous_format) / 127.5 - 1
    return images.expand(-1, channels, -1, -1).contiguous()


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Images (B, channels, H, W) in [-1, 1] as uint8 (B, H, W, channels)."""
    pixels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Images (B, channels, H, W) in [-1, 1] as pictures of 8 bits a channel."""
    arrays = to_pixels(images)
    return [Image.fromarray(a[..., 0] if a.shape[-1] == 1 else a) for a in arrays]
