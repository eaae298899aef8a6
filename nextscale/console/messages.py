"""Lines for the user, on stderr."""

import sys

from nextscale.errors import escaped


def tell(line: str) -> None:
    """A line for the person at the terminal, beside what the command writes."""
    print(escaped(line), file=sys.stderr, flush=True)
