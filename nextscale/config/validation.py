"""Values from files against the types that they should have: strictly, and finite. No torch."""

from functools import cache
from typing import Any, get_origin

from nextscale.errors import UsageError, shown

WANTED = {  # pydantic's kinds of error, in the words of the command line
    "int_type": "a whole number is needed",
    "float_type": "a number is needed",
    "finite_number": "a finite number is needed",
    "bool_type": "true or false is needed",
    "string_type": "a text is needed",
    "tuple_type": "a list is needed",
    "list_type": "a list is needed",
    "dict_type": "a table of keys is needed",
    "mapping_type": "a table of keys is needed",
    "model_type": "a table of keys is needed",
    "missing": "a value is missing",
}


def check_type(hint: Any, value: Any, where: str) -> None:
    """Checks a value against a type, as deep as it goes.

    Args:
        hint: a type such as `tuple[int, ...]`, `Literal["a", "b"]`, or a pydantic model.
        where: the value stands, for the complaint.

    Raises:
        UsageError: naming the innermost place, its value and what is needed. true and 1.0 are no
            whole numbers, "1" is no number, and NaN and infinity are none of either.
    """
    from pydantic import ValidationError

    try:
        adapter(hint).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([where, *map(str, first["loc"])])
        said = WANTED.get(first["type"], first["msg"][:1].lower() + first["msg"][1:])
        held = "not there" if first["type"] == "missing" else shown(first["input"])
        raise UsageError(f"{place} is {held}; {said}") from None
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply") from None
    check_unicode(value, where)


def check_unicode(value: Any, where: str) -> None:
    """Raises UsageError at a text with half a character, which can be written nowhere."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            said = "it holds half a character (a lone surrogate)"
            raise UsageError(f"{where} is {shown(value)}; {said}") from None
    elif isinstance(value, tuple | list):
        for inner in value:
            check_unicode(inner, where)
    elif isinstance(value, dict):
        for key, inner in value.items():
            check_unicode(key, where)
            check_unicode(inner, f"{where}.{key}")


def as_tuples(hint: Any, value: Any) -> Any:
    """Lists, as JSON and the parser give them, as tuples where the type is one."""
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(value)
    return value


@cache
def adapter(hint: Any) -> Any:
    """pydantic's validator of a type; made once, which takes a millisecond."""
    from pydantic import BaseModel, ConfigDict, TypeAdapter

    if isinstance(hint, type) and issubclass(hint, BaseModel):  # which has its own settings
        return TypeAdapter(hint)
    strict = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return TypeAdapter(hint, config=strict)
