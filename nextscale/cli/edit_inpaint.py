"""`nextscale edit inpaint`: fills what is marked of pictures."""

from jsonargparse import Namespace

from nextscale.cli.editing import add_redraw_arguments, redraw_marked
from nextscale.console.options import Parser


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_redraw_arguments(parser)


def run(options: Namespace) -> int:
    """Fills what is marked."""
    return redraw_marked(options, "inpaint")
