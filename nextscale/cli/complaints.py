"""What the parser says of bad words and files, in the words of this command line."""

import re

KINDS = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
}
SWITCHED = {"True": "on", "False": "off"}  # how YAML reads these words


def explain(message: str) -> str:
    """One line of a parser's message; what is not known here stays as it is."""
    line = " ".join(message.split())
    if match := re.search(
        r'Parser key "([\w.]+)"(?: element (\d+))?: Expected an? (.+)\. Got value: (.*)', line
    ):
        key, element, kind, value = match.groups()
        where = f"--{key.replace('_', '-')}" + (f", value {element}," if element else "")
        return f"{where} is {value}; {wanted(kind, value)}"
    if match := re.search(r"Option '([^']+)' is not accepted", line):
        return f"unknown configuration key {match[1]}"
    return line


def wanted(kind: str, value: str) -> str:
    """What may stand there instead of a value, given the parser's name of its type."""
    if kind not in KINDS and "Literal[" in kind:
        choices = re.findall(r"'([^']*)'", kind)
        quoted = SWITCHED.get(value)
        hint = f" (in YAML with quotes: '{quoted}')" if quoted in choices else ""
        return f"it can be {', '.join(choices[:-1])} or {choices[-1]}{hint}"
    return f"{KINDS.get(kind, kind)} is needed"
