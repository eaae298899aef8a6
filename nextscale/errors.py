"""The one error a user can mend: the command line prints its line and exits with code 2."""

import math
import sys

SHOWN = 80  # characters of a value in a complaint
LARGEST = sys.float_info.max


class UsageError(ValueError):
    """Says in one line what was given, what is allowed and what to do."""


def to_install(extra: str) -> str:
    """How to get the packages of an optional part, as the README installs them."""
    return f"`pip install '.[{extra}]'` in a clone of nextscale brings it"


def check_range(given: object, names: str, least: float, most: float = math.inf) -> None:
    """Checks numbers among an object's attributes.

    Args:
        names: of the attributes, with spaces between.

    Raises:
        UsageError: naming the first that is below `least`, above `most`, NaN or infinite.
    """
    for name in names.split():
        value = getattr(given, name)
        if not least <= value <= min(most, LARGEST):  # nor is NaN
            allowed = f"at least {least}" if math.isinf(most) else f"from {least} to {most}"
            raise UsageError(f"{name} is {shown(value)}; it must be {allowed}")


def shown(value: object) -> str:
    """A value as a complaint shows it: on one line, escaped, and short."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except (RecursionError, ValueError):  # nested too deeply; an integer of too many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
