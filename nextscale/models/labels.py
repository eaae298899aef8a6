"""What users call a class: text is a name first and a number only if no class has that name.

Every command, the page and the library read labels here. It knows no torch.
"""

import operator
import re
from collections.abc import Sequence

from nextscale.errors import UsageError, unknown

Label = int | str | None
NONE = "none"  # says no class, unless a class is called so
ALWAYS_NONE = ""  # says no class in any case: no class has an empty name
NAMES_SHOWN = 50  # of a message


def label_number(label: Label, names: Sequence[str], classes: int) -> int:
    """The number of a label; `classes`, the number behind the last class, means no class.

    Text is an exact name, a name but for case and surrounding spaces if that is unique, `none`, or
    a number, whichever fits first. An integer is a number. None and empty text mean no class.

    Args:
        label: what a user gives.
        names: of the classes, in the order of their numbers; may be empty.
        classes: number of classes.

    Raises:
        UsageError: if there is no such class, or several may be meant.
    """
    if label is None or label == ALWAYS_NONE:
        return classes
    if isinstance(label, str):
        return number_of_text(label, names[:classes], classes)
    if isinstance(label, bool) or not hasattr(label, "__index__"):
        raise UsageError(f"label {label!r} is neither text nor an integer; {known(names, classes)}")
    number = operator.index(label)  # of numpy and torch, too
    if not 0 <= number <= classes:
        raise UsageError(f"label {number} is out of range; the model knows {numbered(classes)}")
    return number


def number_of_text(text: str, names: Sequence[str], classes: int) -> int:
    """As `label_number`, of text that is not empty."""
    readings = (
        [i for i, name in enumerate(names) if name == text],
        [i for i, name in enumerate(names) if folded(name) == folded(text)],
    )
    for found in readings:
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(f"{names[i]!r} (number {i})" for i in found[:NAMES_SHOWN])
            raise UsageError(f"label {text!r} may be {several}; write it exactly")
    if folded(text) == NONE:
        return classes
    if not re.fullmatch(r"[-+]?[0-9]{1,18}", text.strip()):
        raise unknown("label", text, names, known(names, classes))
    number = int(text)
    if not 0 <= number < classes:
        raise UsageError(f"label {text} is out of range; the model knows {numbered(classes)}")
    for name in names:  # 7 where a class is called 007
        if re.fullmatch(r"[0-9]{1,18}", name) and int(name) == number and names[number] != name:
            raise UsageError(
                f"label {text!r} may be the class {name!r} or number {number}, "
                f"{names[number]!r}; write the name in full"
            )
    return number


def label_name(number: int, names: Sequence[str], classes: int) -> str:
    """The text that `label_number` reads as this number, `classes` meaning no class."""
    if number == classes:
        return ALWAYS_NONE if any(folded(name) == NONE for name in names) else NONE
    return names[number] if number < len(names) else str(number)


def folded(text: str) -> str:
    """Text without regard to case and surrounding spaces."""
    return text.strip().casefold()


def known(names: Sequence[str], classes: int) -> str:
    """The labels that a model knows, in words."""
    if names and len(names) <= NAMES_SHOWN:
        return f"the model knows {', '.join(names)}"
    return f"the model knows {numbered(classes)}"


def numbered(classes: int) -> str:
    """The labels that a model of this number of classes knows by number, in words."""
    if classes == 0:
        return "only none (no classes)"
    return f"{'0' if classes == 1 else f'0 to {classes - 1}'} and none"
