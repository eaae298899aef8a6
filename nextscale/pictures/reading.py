"""Picture files: which endings and formats are read, and a file's picture, upright.

Only formats whose readers run no other program are opened, whatever a file's name says.
"""

from pathlib import Path

from PIL import Image, UnidentifiedImageError, features

from nextscale.errors import UsageError
from nextscale.pictures.pixels import to_mode, turned

MODERN = bool(features.check("avif"))  # Pillow 11.3 or newer, built with it
EXTENSIONS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm",
    ".pgm", ".pbm", ".pnm", *[".avif"] * MODERN,
)  # fmt: skip
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", *["AVIF"] * MODERN)


def known_endings() -> str:
    """The endings of picture files, for a message."""
    return " ".join(extension[1:] for extension in EXTENSIONS)


def open_picture(path: Path) -> Image.Image:
    """The picture in a file, opened and not decoded yet; its size and mode are known.

    Raises:
        Exception: of nearly any type, if the file holds no picture.
    """
    return Image.open(path, formats=FORMATS)


def decode(path: Path, channels: int) -> Image.Image:
    """The upright picture in a file, as L for 1 channel and RGB for 3; what is clear is white.

    Raises:
        Exception: of nearly any type, if the file is broken.
    """
    with open_picture(path) as picture:
        return to_mode(turned(picture), "L" if channels == 1 else "RGB")


def read_picture(path: Path, channels: int) -> Image.Image:
    """As `decode`. Raises UsageError if the file cannot be read, naming it and the reason."""
    try:
        return decode(path, channels)
    except MemoryError:
        raise  # the machine's fault, not the file's
    except Exception as error:  # Pillow's readers raise nearly anything at broken bytes
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UsageError:
    """The error that names a picture file and why it cannot be read."""
    return UsageError(
        f"{path} cannot be read ({reason_of(error)}); mend it or leave it out; known formats are "
        f"{', '.join(FORMATS)}"
    )


def reason_of(error: Exception) -> str:
    """What an error says, in one line; its type if it says nothing."""
    if isinstance(error, UnidentifiedImageError):
        return "it holds no picture"
    return " ".join(str(error).split()) or type(error).__name__
