"""`nextscale reconstruct`: encodes and decodes pictures and reports PSNR."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from nextscale.cli.inference import (
    add_model_arguments,
    add_running_arguments,
    check_between,
    load_model,
)
from nextscale.config.evaluation import MOST_IMAGES
from nextscale.console.messages import inform
from nextscale.console.options import Parser
from nextscale.console.output import Output
from nextscale.console.progress import progress
from nextscale.errors import UsageError, escaped

if TYPE_CHECKING:
    from PIL import Image

SHEET_SHOWN = 200  # pictures of the sheet
SHEET_COLUMNS = 10


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_model_arguments(parser)
    parser.add_argument("images", type=str, nargs="+", help="files, or folders of them")
    parser.add_argument(
        "--pyramid",
        action="store_true",
        help="also each picture beside its reconstructions after every scale",
    )
    add_running_arguments(parser)


def run(options: Namespace) -> int:
    """Reconstructs pictures and writes them."""
    check_between(1, MOST_IMAGES, batch=options.batch)
    paths = find_images(options.images)
    output = Output(options.out, "reconstructions.json", paths)
    pipe = load_model(options.model, options.device)
    config = pipe.tokenizer.config
    originals = read_images(paths, config.image_channels, config.image_size)
    names = unique_names(paths)
    kinds = ("reconstruction", "pyramid") if options.pyramid else ("reconstruction",)
    entries: list[dict[str, Any]] = [
        {"file": f"{name}-{kind}.png", "image": str(path)}
        for kind in kinds
        for name, path in zip(names, paths, strict=True)
    ]
    record = {"model": options.model, "tokenizer_hash": pipe.config.tokenizer_hash}
    pairs: list[tuple[Image.Image, Image.Image]] = []  # those shown in the sheet
    losses = []
    with progress("reconstructing", len(originals)) as advance:
        for start in range(0, len(originals), options.batch):
            part = slice(start, start + options.batch)
            made = pipe.reconstruct(originals[part])
            if start == 0:  # before pictures, which a next run then knows of
                output.table("reconstructions.json", {**record, "images": entries})
            for name, original, decoded in zip(names[part], originals[part], made, strict=True):
                output.picture(f"{name}-reconstruction.png", decoded)
                if options.pyramid:
                    output.picture(f"{name}-pyramid.png", row(original, pipe.pyramid(original)))
                losses.append(psnr(original, decoded))
                if len(pairs) < SHEET_SHOWN:
                    pairs.append((original, decoded))
                advance(1)

    for entry, loss in zip(entries, losses, strict=False):  # reconstructions come first
        entry["psnr"] = loss if math.isfinite(loss) else None
    output.table("reconstructions.json", {**record, "images": entries})
    output.picture("sheet.png", sheet(pairs))
    output.report_others()
    if len(pairs) < len(originals):
        inform(f"the sheet shows the first {len(pairs)} of {len(originals)} pictures")
    shown = [escaped(name) for name in names]
    width = max(map(len, shown))
    for name, loss in zip(shown, losses, strict=True):
        print(f"{name:<{width}}  {loss:.2f} dB")
    mean = sum(losses) / len(losses)
    count = f"{len(names)} picture{'s' * (len(names) > 1)}"
    print(f"{count}, mean PSNR {mean:.2f} dB; see {output.directory}")
    return 0


def find_images(given: Iterable[str]) -> list[Path]:
    """Files as given, and those in folders by name. Raises UsageError where there are none."""
    from nextscale.data.listing import find_files
    from nextscale.pictures.reading import known_endings

    paths = []
    for name in given:
        path = Path(name)
        if path.is_dir():
            found = find_files(path)
            inside = sorted(path / below for below, _, _ in found.files)
            if not inside:
                raise UsageError(f"{path} holds no images; known are {known_endings()}")
            if found.empty:
                inform(f"no images in {', '.join(str(path / folder) for folder in found.empty)}")
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise UsageError(f"there is no {path}; give image files or folders of them")
    return paths


def read_images(paths: Sequence[Path], channels: int, size: tuple[int, int]) -> list["Image.Image"]:
    """Pictures resized and cropped to (height, width). Raises UsageError at an unreadable file."""
    from nextscale.pictures.pixels import crop_to, is_grey, recoloured, to_mode
    from nextscale.pictures.reading import read_picture

    pictures, changes = [], Counter()
    for path in paths:
        picture = read_picture(path, 3)
        changes[recoloured(is_grey(picture), channels)] += 1
        pictures.append(crop_to(to_mode(picture, "L" if channels == 1 else "RGB"), *size))
    report_changes(changes, len(pictures))
    return pictures


def report_changes(changes: Mapping[str, int], count: int) -> None:
    """Tells how many of the pictures are changed for the model, and how."""
    for change, number in changes.items():
        if change:
            inform(f"{number} of {count} images are {change}")


def unique_names(paths: Iterable[Path]) -> list[str]:
    """File names without ending; where they meet, with their folder's name, then with a number."""
    paths = list(paths)
    met = Counter(path.stem for path in set(paths))
    names: dict[str, None] = {}  # an ordered set
    for path in paths:
        folder = path.absolute().parent.name
        plain = path.stem if met[path.stem] == 1 else f"{folder}-{path.stem}".lstrip("-")
        name, number = plain, 2
        while name in names:
            name, number = f"{plain}-{number}", number + 1
        names[name] = None
    return list(names)


def psnr(original: "Image.Image", decoded: "Image.Image") -> float:
    """Peak signal-to-noise ratio in dB of two 8-bit pictures; infinite if they are equal."""
    import numpy as np

    difference = np.asarray(original, np.float64) - np.asarray(decoded, np.float64)
    error = float(np.mean(np.square(difference / 255)))
    return -10 * math.log10(error) if error else math.inf


def row(original: "Image.Image", decoded: Sequence["Image.Image"]) -> "Image.Image":
    """The picture, then what each further scale makes of it."""
    from nextscale.pictures.grids import grid

    return grid([[original, *decoded]])


def sheet(pairs: Sequence[tuple["Image.Image", "Image.Image"]]) -> "Image.Image":
    """Rows of pictures, each over the row of their reconstructions."""
    from nextscale.pictures.grids import grid

    rows = []
    for start in range(0, len(pairs), SHEET_COLUMNS):
        rows += zip(*pairs[start : start + SHEET_COLUMNS], strict=True)
    return grid(rows)
