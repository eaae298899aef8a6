"""`nextscale edit interpolate`: pictures from one to another."""

from pathlib import Path

from jsonargparse import Namespace

from nextscale.cli.editing import read_pictures
from nextscale.cli.inference import add_device_argument, add_model_arguments, load_model
from nextscale.cli.reconstruct import find_images
from nextscale.console.options import Parser
from nextscale.console.output import Output


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_model_arguments(parser)
    add = parser.add_argument
    add("first", type=str, help="file")
    add("second", type=str, help="file")
    add("--steps", type=int, default=5, help="pictures in all, the two ends among them")
    add_device_argument(parser)
    add("--out", type=str, default="outputs", help="directory")


def run(options: Namespace) -> int:
    """Interpolates between two pictures."""
    from nextscale.pictures.grids import grid

    paths = [find_images([file])[0] for file in (options.first, options.second)]
    output = Output(options.out, "edits.json", paths)
    first, second = read_pictures(paths)
    pipe = load_model(options.model, options.device)
    pictures = pipe.interpolate(first, second, options.steps)
    stem = f"{Path(options.first).stem}-{Path(options.second).stem}"
    files = [f"{stem}-interpolate-{number + 1}.png" for number in range(len(pictures))]
    record = {
        "edit": "interpolate",
        "model": options.model,
        "tokenizer_hash": pipe.config.tokenizer_hash,
        "ends": list(map(str, paths)),
        "images": [{"file": file} for file in files],
    }
    output.table("edits.json", record)
    for file, picture in zip(files, pictures, strict=True):
        output.picture(file, picture)
    output.picture("sheet.png", grid([pictures]))
    output.tell_others()
    print(f"{len(pictures)} pictures; see {output.directory}")
    return 0
