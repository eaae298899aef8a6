"""The one error a user can mend: the command line prints its line and exits with code 2."""

import math
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from inspect import Parameter, signature

SHOWN = 80  # characters of a value in a complaint
LARGEST = sys.float_info.max
# Characters that reorder what is read around them (Unicode TR 9); controls are found by category.
REORDERING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # controls, lone surrogates, breaks of lines and paragraphs


class UsageError(ValueError):
    """Says in one line what was given, what is allowed and what to do."""


def escaped(text: str) -> str:
    """One line that shows controls instead of obeying them, whatever names stand in it.

    A byte of a file name that is not UTF-8 is shown as `\\xNN`.
    """
    return "".join(map(printable, text))


def printable(character: str) -> str:
    """A character as it is, or what stands for it."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds such a byte
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) in CONTROLS or character in REORDERING:
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    return character


def ignore_pillow_warnings() -> None:
    """Hides Pillow's warnings in a process of ours, never in a program that imports nextscale.

    They are of damaged metadata, which is left out, and of sizes, which are bounded.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


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


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """The known name that a mistyped one resembles, as `; did you mean 'var'?`; else nothing."""
    lowered: dict[str, str] = {}  # the first of names that differ in case alone
    for name in known:
        lowered.setdefault(name.lower(), name)
    word = str(given).lower()
    close = [name for name in lowered if len(word) > 2 and name.startswith(word)]
    close = close or get_close_matches(word, lowered, n=1)
    close = close or [name for name in lowered if len(word) > 2 and word in name]  # a part of it
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def unknown(kind: str, given: object, known: Iterable[str], allowed: str = "") -> UsageError:
    """The error about a name that is not known.

    Args:
        kind: of the name, such as `preset`.
        given: the name.
        known: names that stand for something, searched for similar ones.
        allowed: what may be given, in words; the known names unless given.
    """
    known = list(known)
    hint = did_you_mean(given, known)
    allowed = allowed or f"known: {', '.join(known)}"
    return UsageError(f"unknown {kind} {given!r}{hint or ';'} {allowed}")


def check_keywords(
    given: Iterable[str], *functions: Callable[..., object], hidden: Iterable[str] = ()
) -> None:
    """Checks options that one function passes to another as `**options`.

    Args:
        given: their names.
        functions: that take them as arguments by keyword alone.
        hidden: names among those that callers may not give.

    Raises:
        UsageError: at a name that none of the functions takes.
    """
    known = {
        name: None
        for function in functions
        for name, parameter in signature(function).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY and name not in hidden
    }
    for name in given:
        if name not in known:
            raise unknown("option", name, known)
