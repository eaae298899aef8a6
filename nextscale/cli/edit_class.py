"""`nextscale edit class`: makes what is marked of pictures one of another class."""

from jsonargparse import Namespace

from nextscale.cli.editing import add_redraw_arguments, redraw_marked
from nextscale.console.options import Parser


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_redraw_arguments(parser)


def run(options: Namespace) -> int:
    """Redraws what is marked as another class."""
    return redraw_marked(options, "class")
