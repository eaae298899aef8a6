"""Lines for the user, on stderr."""

import sys

from nextscale.errors import escaped


def inform(line: str) -> None:
    """Prints a line for the user, beside the output of the command."""
    print(escaped(line), file=sys.stderr, flush=True)
