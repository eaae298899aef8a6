"""`nextscale edit vary`: keeps the coarse scales of pictures and draws the fine ones anew."""

from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from nextscale.cli.editing import add_editing_arguments, edit_pictures, fitted, read_given
from nextscale.console.options import Parser

if TYPE_CHECKING:
    from PIL import Image

    from nextscale.pipeline import Pipeline


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_editing_arguments(parser)
    keep = "of the model's scales, from the coarsest: few keep the layout, many all but the texture"
    parser.add_argument("--keep-scales", type=int, required=True, help=keep)


def run(options: Namespace) -> int:
    """Varies pictures."""
    given = read_given(options)
    told = {"keep_scales": options.keep_scales}

    def edit(pipe: "Pipeline", part: slice, drawing: dict[str, Any]) -> list["Image.Image"]:
        return pipe.vary(given.pictures[part], **told, **drawing)

    def show(pipe: "Pipeline") -> list[list["Image.Image"]]:
        return [[fitted(pipe, picture)] for picture in given.pictures]

    return edit_pictures(options, "vary", given, edit, show, told)
