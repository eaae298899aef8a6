"""`nextscale edit outpaint`: continues pictures beyond their sides."""

from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from nextscale.cli.editing import (
    add_editing_arguments,
    add_keeping_arguments,
    edit_pictures,
    keeping,
    read_given,
)
from nextscale.console.options import Parser
from nextscale.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from nextscale.pipeline import Pipeline


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
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


def run(options: Namespace) -> int:
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


def on_canvas(pipe: "Pipeline", picture: "Image.Image", sides: Any, box: Any) -> "Image.Image":
    """A picture where it lies in the canvas, around it grey."""
    import torch.nn.functional as F

    from nextscale.editing.editor import place
    from nextscale.pictures.pixels import to_pictures

    images, (left, top, right, bottom) = place(pipe, [picture], sides, box)
    return to_pictures(F.pad(images, (left, right, top, bottom)))[0]
