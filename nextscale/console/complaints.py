"""What the parser says of bad words and files, in the words of this command line."""

import re
from collections.abc import Sequence

from nextscale.errors import did_you_mean

KINDS = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
}
SWITCHED = {"True": "on", "False": "off"}  # how YAML reads these words


def explain(message: str, options: Sequence[str] = ()) -> str:
    """One line of a parser's message; what is not known here stays as it is.

    Args:
        message: of the parser.
        options: that it knows, as they are typed.
    """
    line = " ".join(message.split())
    if match := re.search(
        r'Parser key "([\w.]+)"(?: element (\d+))?: Expected an? (.+)\. Got value: (.*)', line
    ):
        key, element, kind, value = match.groups()
        where = option_of(key) + (f", value {element}," if element else "")
        return f"{where} is {value}; {wanted(kind, value)}"
    if match := re.search(
        r'Parser key "([\w.]+)": Does not validate against any of the Union subtypes '
        r"Subtypes: \[(.+)\] Errors: .* Given value: (.*)",
        line,
    ):
        key, kinds, value = match.groups()
        return f"{option_of(key)} is {value}; {wanted(kinds, value)}"
    if match := re.search(
        r"argument (--[\w.-]+): invalid choice: '?(.*?)'? \(choose from (.*)\)", line
    ):
        option, value, choices = match.groups()
        allowed = re.findall(r"[^, ']+", choices)
        return f"{option} is {value}; {one_of(allowed, value)}"
    if match := re.search(r"argument (--[\w.-]+): (expected .*)", line):
        return f"{match[1]}: {match[2]}"
    if match := re.search(r"Option '([^']+)' is not accepted", line):
        keys = [option.removeprefix("--").replace("-", "_") for option in options]
        return f"unknown configuration key {match[1]}{did_you_mean(match[1], keys)}"
    if match := re.match(r"unrecognized arguments: (.*)", line):
        words = match[1].split()
        given = next((word for word in words if word.startswith("--")), "").partition("=")[0]
        return line + did_you_mean(given, options)
    if match := re.search(r"File does not exist: '(.*)'", line):
        return f"there is no file {match[1]}; give --config a YAML file"
    return line


def option_of(key: str) -> str:
    """A configuration key as it is typed on the line."""
    return f"--{key.replace('_', '-')}"


def wanted(kinds: str, value: str) -> str:
    """What may stand there instead of a value, given the parser's name of its type or types."""
    plain = [told for kind, told in KINDS.items() if kind in kinds]
    literals = " ".join(re.findall(r"Literal\[([^]]*)\]", kinds))
    choices = re.findall(r"'([^']*)'", literals)
    if choices and not plain:
        return one_of(choices, value)
    named = " or ".join([*plain, *choices]) or kinds
    return f"{named} is needed{did_you_mean(value, choices)}"


def one_of(choices: Sequence[str], value: str) -> str:
    """The allowed words, and which of them may be meant."""
    quoted = SWITCHED.get(value)
    note = f" (in YAML with quotes: '{quoted}')" if quoted in choices else ""
    likely = "" if note else did_you_mean(value, choices)
    return f"it can be {', '.join(choices[:-1])} or {choices[-1]}{note}{likely}"
