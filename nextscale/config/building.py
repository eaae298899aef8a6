"""Dataclasses from plain values of files: strict types, unknown keys are errors. No torch."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from types import MappingProxyType
from typing import Any, TypeVar, cast, get_args, get_type_hints

from nextscale.config.limits import LONGEST_KEY
from nextscale.config.validation import as_tuples, check_type
from nextscale.errors import UsageError, shown
from nextscale.scales import Scales, parse_scales

T = TypeVar("T")
ADDED = MappingProxyType({"added": True})  # metadata of a field that 0.1 did not have


def shaping(config: Any) -> dict[str, Any]:
    """A dataclass as a table for the keys of caches, which those of 0.1 keep.

    Fields that 0.1 did not have are left out while they hold their default.
    """
    table = asdict(config)
    for item in fields(config):
        if item.metadata.get("added") and getattr(config, item.name) == item.default:
            del table[item.name]
    return table


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Makes a dataclass, and those in it, from plain values of exactly the right types.

    Raises:
        UsageError: naming a key that it does not know, or the field, its value and what is allowed.
    """
    assert is_dataclass(kind)
    if not isinstance(values, Mapping):
        raise UsageError(f"configuration of {where} is {shown(values)}; a table of keys is needed")
    known = {item.name for item in fields(kind)}
    unknown = sorted(map(str, set(values) - known))
    if unknown:
        raise UsageError(
            f"unknown configuration key {', '.join(map(bare, unknown[:4]))} in {where}; known: "
            f"{', '.join(sorted(known))}"
        )
    hints = get_type_hints(kind)
    fitting = {name: of_type(hints[name], value, name) for name, value in values.items()}
    return kind(**fitting)


def of_type(hint: Any, value: Any, name: str) -> Any:
    """A field's value; tables become the dataclass that the field holds."""
    inner: Any = next((one for one in (hint, *get_args(hint)) if is_dataclass(one)), None)
    if inner is not None:
        if isinstance(value, inner) or (value is None and type(None) in get_args(hint)):
            return value
        return build(inner, cast("Mapping[str, Any]", value), name)
    if hint == Scales:
        return parse_scales(value)
    value = as_tuples(hint, value)
    check_type(hint, value, name)
    return value


def bare(name: str) -> str:
    """A key as a complaint shows it: without quotes, unless it is no plain word."""
    return name if name.isidentifier() and len(name) <= LONGEST_KEY else shown(name)
