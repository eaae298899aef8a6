"""The one error a user can mend: the command line prints its line and exits with code 2."""

import math


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
        if not (least <= value <= most and math.isfinite(value)):
            allowed = f"at least {least}" if math.isinf(most) else f"from {least} to {most}"
            raise UsageError(f"{name} is {value}; it must be {allowed}")
