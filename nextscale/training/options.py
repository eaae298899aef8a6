"""A run's `config.json`, read back as the options that it was started with. Imports no torch."""

from pathlib import Path
from typing import Any

from nextscale.errors import UsageError
from nextscale.files import check_no_link, read_json

# Not options of the whole run, but how it was called, and what its data has.
DERIVED = (
    "command", "planned_epochs", "resume", "max_steps", "model.classes",
    "classifier.classes", "classifier.labels", "classifier.data",
)  # fmt: skip


def is_record(values: dict[str, Any]) -> bool:
    """Whether a table of options is the record of a run."""
    return "command" in values


def read_options(file: Path, command: str) -> dict[str, Any]:
    """The options that a run's `config.json` records, as a file of options holds them.

    Args:
        command: that takes them.

    Raises:
        UsageError: if the file is a link or damaged, or the record of another command.
    """
    check_no_link(file)
    return options_of(read_json(file), command, file.parent)


def options_of(record: dict[str, Any], command: str, where: Path) -> dict[str, Any]:
    """The options in the record of a run. Raises UsageError if it is one of another command."""
    check_command(record, command, where)
    return without(record, DERIVED)


def without(values: dict[str, Any], names: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    """A nested table without some entries, given by their dotted names."""
    return {
        key: without(value, names, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in values.items()
        if prefix + key not in names
    }


def check_command(record: dict[str, Any], command: str | None, where: Path) -> None:
    """Raises UsageError unless the record of a run is one of this command."""
    if record.get("command") != command:
        raise UsageError(
            f"{where} holds a run of `nextscale {record.get('command')}`, not of `nextscale "
            f"{command}`; give another directory, or that command"
        )
