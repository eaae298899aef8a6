"""`nextscale edit class`: makes what is marked of pictures one of another class."""

from jsonargparse import Namespace

from nextscale.cli.editing import add_redraw_arguments, redraw_marked
from nextscale.cli.options import Parser
from nextscale.errors import UsageError


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_redraw_arguments(parser)


def run(options: Namespace) -> int:
    """Redraws what is marked as another class."""
    if "none" in [str(label).lower() for label in options.label]:
        raise UsageError("--label is missing; give the class that is drawn")
    return redraw_marked(options, "class")
