"""YAML documents that may come from anyone: read once, within bounds, without running code."""

from typing import Any

from nextscale.errors import UsageError, shown
from nextscale.storage.files import PathLike, read_text

LARGEST = 2**20  # bytes of a document
DEEPEST = 64  # lists and tables within each other
MOST_VALUES = 100_000  # of a document, those counted again that stand for an alias


def read_document(file: PathLike) -> str:
    """The text of a file or a pipe, which can be read only once; see `read_text`."""
    return read_text(file, LARGEST, pipes=True)


def parse_document(text: str, file: PathLike) -> dict[str, Any]:
    """The table that a document holds.

    Args:
        file: where it comes from, for the complaint.

    Raises:
        UsageError: if it is no YAML, or holds something else or more than is sensible.
    """
    import yaml

    kind = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader = kind(text)
    try:
        depth = 0
        for event in yaml.parse(text, kind):  # step by step; what follows recurses, and could crash
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise UsageError(f"{file} is nested deeper than {DEEPEST} tables or lists")
        node = loader.get_single_node()
        if node is not None and expanded(node, {}) > MOST_VALUES:
            raise UsageError(f"{file} has aliases that stand for more than {MOST_VALUES:,} values")
        values = None if node is None else loader.construct_document(node)
    except UsageError:
        raise
    except RecursionError:
        raise UsageError(f"{file} holds itself, by an alias") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise UsageError(f"{file} is no YAML file ({reason})") from error
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        held = "nothing" if values is None else shown(values)
        raise UsageError(f"{file} holds {held}; a table of options is needed, as in recipes/")
    return values


def expanded(node: Any, known: dict[int, int]) -> int:
    """Values that a node of a document stands for, with its aliases written out.

    Args:
        known: counts of nodes that were counted before. A node that holds itself recurs endlessly.
    """
    if id(node) not in known:
        inner = node.value if isinstance(node.value, list) else []
        pairs = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(expanded(part, known) for part in pairs)
    return known[id(node)]
