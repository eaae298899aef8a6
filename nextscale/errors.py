"""The one error a user can mend: the command line prints its line and exits with code 2."""

import math
import unicodedata

# Characters that reorder what is read around them (Unicode TR 9); controls are found by category.
REORDERING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # controls, lone surrogates, breaks of lines and paragraphs


class UsageError(ValueError):
    """Says in one line what was given, what is allowed and what to do."""


def escaped(text: str) -> str:
    """One line that shows controls instead of obeying them, whatever names stand in it.

    A byte of a file name that is not UTF-8 is shown as `\\xNN`.
    """
    return "".join(map(shown, text))


def shown(character: str) -> str:
    """A character as it is, or what stands for it."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds such a byte
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) in CONTROLS or character in REORDERING:
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    return character


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
