"""`nextscale edit inpaint`: fills what is marked of pictures."""

from jsonargparse import Namespace

from nextscale.cli.editing import (
    add_editing_arguments,
    add_keeping_arguments,
    add_mask_arguments,
    redraw_marked,
)
from nextscale.cli.options import Parser


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_editing_arguments(parser)
    add_mask_arguments(parser)
    add_keeping_arguments(parser)


def run(options: Namespace) -> int:
    """Fills what is marked."""
    return redraw_marked(options, "inpaint")
