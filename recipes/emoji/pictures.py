"""From packages to pixels: SVG and WebP emojis as square pictures on white, in five styles."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import names
import numpy as np
import packages
from names import Emoji
from numpy.typing import NDArray
from packages import Archive, Package
from PIL import Image

OVERSAMPLING = 4  # pictures are drawn at this times the side, then averaged
LEAK_SIDE, LEAK_PSNR = 32, 30.0  # above this PSNR at this side, two pictures show the same


@dataclass(frozen=True)
class Style:
    """One set of pictures.

    Attributes:
        package: where it comes from.
        words: how captions name it.
        margin: white border on each side, over the side of the picture.
    """

    package: Package
    words: str
    margin: float = 0.0


STYLES = {
    "twemoji": Style(packages.TWEMOJI, "flat twemoji style", 1 / 32),
    "noto": Style(packages.NOTO, "noto style"),
    "fluent-flat": Style(packages.FLUENT_FLAT, "flat fluent style"),
    "fluent-3d": Style(packages.FLUENT_3D, "3d fluent style"),
    "blob": Style(packages.BLOB, "blob style"),
}


@dataclass(frozen=True)
class Picture:
    """A drawn emoji.

    Attributes:
        pixels: uint8 (side, side, 3).
    """

    emoji: Emoji
    style: str
    pixels: NDArray[np.uint8]


def pictures(
    emojis: Sequence[Emoji], folder: Path, side: int, styles: Collection[str]
) -> Iterator[Picture]:
    """All pictures, style by style, in the order of the emojis.

    Within a style, a picture that equals an earlier one is left out.

    Args:
        folder: of the packages.
        side: of the pictures, in pixels.
        styles: that are drawn; the others only lend their names.
    """
    archives = {style: Archive(STYLES[style].package, folder) for style in STYLES}
    icon_names: dict[str, str] = {}  # of all iconify sets, to codes
    for archive in archives.values():
        if "chars.json" in archive.members:
            for code, name in archive.json("chars.json").items():
                icon_names.setdefault(name, names.normal_code(code))
    for style in styles:
        archive = archives[style]
        if "icons.json" in archive.members:
            drawn = draw_icons(archive, emojis, icon_names, STYLES[style].margin, side)
        else:
            drawn = read_webps(archive, emojis, side)
        seen = set()
        for emoji, pixels in drawn:
            content = pixels.tobytes()
            if content not in seen:
                seen.add(content)
                yield Picture(emoji, style, pixels)


def draw_icons(
    archive: Archive,
    emojis: Sequence[Emoji],
    icon_names: Mapping[str, str],
    margin: float,
    side: int,
) -> Iterator[tuple[Emoji, NDArray[np.uint8]]]:
    """Pictures of an iconify set.

    Args:
        icon_names: codes by icon names, for a set that comes without codes.
    """
    import resvg_py

    icons = archive.json("icons.json")
    chars = archive.json("chars.json")
    known = {names.normal_code(code): name for code, name in chars.items()}
    if not known:
        for name in [*icons["icons"], *icons["aliases"]]:
            if name in icon_names:
                known.setdefault(icon_names[name], name)
    for emoji in emojis:
        if emoji.code in known:
            png = resvg_py.svg_to_bytes(
                svg_string=svg(icons, known[emoji.code], margin),
                width=side * OVERSAMPLING,
                height=side * OVERSAMPLING,
                background="#ffffff",
                skip_system_fonts=True,
            )
            picture = Image.open(BytesIO(png)).convert("RGB").reduce(OVERSAMPLING)
            yield emoji, np.asarray(picture)


def svg(icons: Mapping[str, Any], name: str, margin: float = 0.0) -> str:
    """The SVG of an icon, centred in a square; aliases are followed, mirrored ones too."""
    mirrored = False
    while name not in icons["icons"]:
        alias = icons["aliases"][name]
        mirrored ^= alias.get("hFlip", False)
        name = alias["parent"]
    icon = icons["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = (icon.get(key, icons[key]) for key in ("width", "height"))
    side = max(width, height) / (1 - 2 * margin)
    body = icon["body"]
    if mirrored:
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    box = f"{left - (side - width) / 2} {top - (side - height) / 2} {side} {side}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{box}">{body}</svg>'


def read_webps(
    archive: Archive, emojis: Sequence[Emoji], side: int
) -> Iterator[tuple[Emoji, NDArray[np.uint8]]]:
    """Pictures of the 3-D set, without its country flags, which are Google's."""
    known = {
        names.normal_code(Path(path).stem): content
        for path, content in archive.members.items()
        if path.endswith(".webp")
    }
    drawn = (side * OVERSAMPLING, side * OVERSAMPLING)
    for emoji in emojis:
        if emoji.code in known and emoji.subgroup != "country-flag":
            picture = Image.open(BytesIO(known[emoji.code])).convert("RGBA")
            square = Image.new("RGBA", (max(picture.size),) * 2, "white")
            left, top = (square.width - picture.width) // 2, (square.width - picture.height) // 2
            square.alpha_composite(picture, (left, top))
            resized = square.convert("RGB").resize(drawn, Image.Resampling.BOX)
            yield emoji, np.asarray(resized.reduce(OVERSAMPLING))


def nearest(
    held_out: Sequence[NDArray[np.uint8]], training: Sequence[NDArray[np.uint8]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each held-out picture (H, W, 3), the PSNR in dB at 32 px of the nearest training one.

    Returns:
        PSNR (N,), infinite for equal pictures; number of the training picture (N,).
    """
    small_held_out, small_training = shrink(held_out), shrink(training)
    norms = np.square(small_training).sum(1)  # (M,)
    best, number = [], []
    for rows in np.array_split(small_held_out, max(1, len(small_held_out) // 100)):
        errors = np.square(rows).sum(1)[:, None] + norms - 2 * rows @ small_training.T  # (n, M)
        found = errors.argmin(1)
        exact = np.square(rows - small_training[found]).mean(1, dtype=np.float64)
        with np.errstate(divide="ignore"):
            best.append(-10 * np.log10(exact))
        number.append(found)
    return np.concatenate(best), np.concatenate(number)


def shrink(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Pictures as rows (N, 32 * 32 * 3) of numbers from 0 to 1."""
    factor = pictures[0].shape[0] // LEAK_SIDE
    rows = [
        np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).reduce(factor)).ravel()
        for pixels in pictures
    ]
    return np.stack(rows).astype(np.float32) / np.float32(255)
