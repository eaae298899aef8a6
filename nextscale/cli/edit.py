"""`nextscale edit`: inpaint, outpaint, class, vary and interpolate."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ActionYesNo, Namespace

from nextscale.cli.editing import (
    add_editing_arguments,
    edit_pictures,
    fitted,
    masks_of,
    on_canvas,
    read_given,
    read_pictures,
    white,
)
from nextscale.cli.inference import add_model_arguments, check_between, load_model
from nextscale.cli.reconstruct import find_images
from nextscale.config.limits import LARGEST_SIDE
from nextscale.console.options import Parser, add_device_argument
from nextscale.console.output import Output
from nextscale.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from nextscale.pipeline import Pipeline


def add_mask_arguments(parser: Parser) -> None:
    """Adds what is redrawn."""
    group = parser.add_argument_group("mask", "what is redrawn [what is transparent]")
    add = group.add_argument
    mask = "of all images, white where they are redrawn; or a folder with one each, by name"
    add("--mask", type=str, help=mask)
    add("--box", type=int, nargs=4, help="left, top, right and bottom in pixels of the image")
    fill = "show the model a continuation of the surroundings instead of what is redrawn"
    add("--fill", action=ActionYesNo(no_prefix="no-"), default=True, help=fill)
    add("--paste", action="store_true", help="put the other pixels back as they were")


def add_keeping_arguments(parser: Parser) -> None:
    """Adds how what is not redrawn is kept."""
    group = parser.add_argument_group("keeping", "how the rest is kept")
    add = group.add_argument
    rule = "by which a scale's positions are kept: as the published code, or only if all of it is"
    add("--rule", choices=("released", "strict"), default="released", help=rule)
    add("--recode", action="store_true", help="let kept codes mend what is drawn beside them")
    add("--feather", type=int, default=0, help="pixels in which what is put back fades")


def keeping(options: Namespace) -> dict[str, Any]:
    """The options of `add_keeping_arguments`."""
    check_between(0, LARGEST_SIDE, feather=options.feather)
    return {name: options[name] for name in ("rule", "recode", "feather")}


def add_redraw_arguments(parser: Parser) -> None:
    """Adds all options of an edit that redraws what is marked."""
    add_editing_arguments(parser)
    add_mask_arguments(parser)
    add_keeping_arguments(parser)


def inpaint(options: Namespace) -> int:
    """Fills what is marked."""
    return redraw_marked(options, "inpaint")


def change_class(options: Namespace) -> int:
    """Redraws what is marked as another class."""
    return redraw_marked(options, "class")


def redraw_marked(options: Namespace, name: str) -> int:
    """Redraws what is marked of pictures; `name` is that of the edit."""
    given = read_given(options)
    masks = masks_of(options, len(given.pictures))
    told = {"fill": options.fill, "paste": options.paste, **keeping(options)}

    def edit(pipe: "Pipeline", part: slice, drawing: dict[str, Any]) -> list["Image.Image"]:
        return pipe.edit(given.pictures[part], masks[part], **told, **drawing)

    def show(pipe: "Pipeline") -> list[list["Image.Image"]]:
        pairs = zip(given.pictures, masks, strict=True)
        return [[fitted(pipe, picture), white(pipe, picture, mask)] for picture, mask in pairs]

    return edit_pictures(
        options, name, given, edit, show, {"mask": options.mask, "box": options.box, **told}
    )


def add_outpaint_arguments(parser: Parser) -> None:
    """Adds the options of `edit outpaint`."""
    add_editing_arguments(parser)
    group = parser.add_argument_group("what to draw, one of")
    add = group.add_argument
    sides = "pixels to add left, top, right and bottom of an image of the model's size"
    add("--sides", type=int, nargs=4, help=sides)
    box = "left, top, right and bottom in an image of the model's size that the picture fills"
    add("--box", type=int, nargs=4, help=box)
    add_keeping_arguments(parser)
    overlap = "share of a window of the model's size that its neighbour knows"
    parser.add_argument("--overlap", type=float, default=0.5, help=overlap)


def outpaint(options: Namespace) -> int:
    """Continues pictures."""
    if (options.sides is None) == (options.box is None):
        raise UsageError("give either --sides or --box")
    given = read_given(options)
    place = {"sides": options.sides, "box": options.box}
    told = {**place, "overlap": options.overlap, **keeping(options)}

    def edit(pipe: "Pipeline", part: slice, drawing: dict[str, Any]) -> list["Image.Image"]:
        return pipe.outpaint(given.pictures[part], **told, **drawing)

    def show(pipe: "Pipeline") -> list[list["Image.Image"]]:
        return [[on_canvas(pipe, picture, **place)] for picture in given.pictures]

    return edit_pictures(options, "outpaint", given, edit, show, told)


def add_vary_arguments(parser: Parser) -> None:
    """Adds the options of `edit vary`."""
    add_editing_arguments(parser)
    keep = "of the model's scales, from the coarsest: few keep the layout, many all but the texture"
    parser.add_argument("--keep-scales", type=int, required=True, help=keep)


def vary(options: Namespace) -> int:
    """Varies pictures."""
    given = read_given(options)
    told = {"keep_scales": options.keep_scales}

    def edit(pipe: "Pipeline", part: slice, drawing: dict[str, Any]) -> list["Image.Image"]:
        return pipe.vary(given.pictures[part], **told, **drawing)

    def show(pipe: "Pipeline") -> list[list["Image.Image"]]:
        return [[fitted(pipe, picture)] for picture in given.pictures]

    return edit_pictures(options, "vary", given, edit, show, told)


def add_interpolate_arguments(parser: Parser) -> None:
    """Adds the options of `edit interpolate`."""
    add_model_arguments(parser)
    add = parser.add_argument
    add("first", type=str, help="file")
    add("second", type=str, help="file")
    add("--steps", type=int, default=5, help="pictures in all, the two ends among them")
    add_device_argument(parser)
    add("--out", type=str, default="outputs", help="directory")


def interpolate(options: Namespace) -> int:
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
    output.report_others()
    print(f"{len(pictures)} pictures; see {output.directory}")
    return 0


COMMANDS = {
    "inpaint": (add_redraw_arguments, inpaint),
    "outpaint": (add_outpaint_arguments, outpaint),
    "class": (add_redraw_arguments, change_class),
    "vary": (add_vary_arguments, vary),
    "interpolate": (add_interpolate_arguments, interpolate),
}
