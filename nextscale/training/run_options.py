"""Writes, reads and compares the options in a run's `config.json`, without importing torch."""

import json
import os
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nextscale.config.run import TrainingConfig
from nextscale.errors import UsageError
from nextscale.storage.files import check_no_link, read_json

# Entries that do not hold for the whole run but for one call, or that follow from its data.
DERIVED = (
    "command", "planned_epochs", "resume", "max_steps", "model.classes",
    "classifier.classes", "classifier.labels", "classifier.data",
)  # fmt: skip
# Options that may differ when a run is resumed, as they do not change what is computed.
FREE = (
    "out", "resume", "keep", "log_every", "max_steps", "validate_every", "save_every",
    "validation_images", "cache", "data.workers", "data.changed", "patience", "planned_epochs",
)  # fmt: skip
OF_DATA = (
    "data.path",
    "data.root",
    "classifier.labels",
)  # the record of the data is compared instead
OF_WEIGHTS = ("init", "tokenizer")  # the checkpoint holds them, the tokenizer by its hash
OUTPUTS = ("out", "cache")  # options that are paths
INPUTS = (
    "init",
    "tokenizer",
    "data.path",
    "data.root",
    "loss.perceptual_network",
)  # options that are paths or names
DIFFERENCES_SHOWN = 3


def recorded(command: str, config: TrainingConfig, names: Collection[str]) -> dict[str, Any]:
    """Returns the contents of a run's `config.json`, with absolute paths.

    Args:
        command: the command that trains.
        names: of models and data, which take precedence over folders of the same name.
    """
    options = json.loads(json.dumps(asdict(config)))
    del options["data"]["changed"]  # it must be given for each change
    options = with_places(options, names)
    return {"command": command, "planned_epochs": config.epochs} | options


def with_places(
    options: dict[str, Any], names: Collection[str], prefix: str = ""
) -> dict[str, Any]:
    """A nested table of options with absolute paths; see `recorded`."""
    found = {}
    for key, value in options.items():
        option = prefix + key
        if isinstance(value, dict):
            found[key] = with_places(value, names, f"{option}.")
        elif value and (option in OUTPUTS or (option in INPUTS and is_place(value, names))):
            found[key] = os.path.abspath(value)
        else:
            found[key] = value
    return found


def is_place(value: str, names: Collection[str]) -> bool:
    """Whether a value is an existing path and not a name."""
    return value not in names and os.path.exists(value)


def is_record(values: dict[str, Any]) -> bool:
    """Whether a table of options is the record of a run."""
    return "command" in values


def read_options(file: Path, command: str) -> dict[str, Any]:
    """Reads the options in a run's `config.json`, in the form of a file of options.

    Args:
        command: the command that takes them.

    Raises:
        UsageError: if the file is a link, is damaged, or belongs to a checkpoint or to another
            command.
    """
    check_no_link(file)
    record = read_json(file)
    if not is_record(record):
        raise UsageError(f"{file} is not the record of a run; give a run's directory")
    return options_of(record, command, file.parent)


def options_of(record: dict[str, Any], command: str, where: Path) -> dict[str, Any]:
    """The options in the record of a run. Raises UsageError if another command wrote it."""
    check_command(record, command, where)
    return without(record, DERIVED)


def without(values: dict[str, Any], names: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    """A nested table without the entries of the given dotted names."""
    return {
        key: without(value, names, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in values.items()
        if prefix + key not in names
    }


def check_command(record: dict[str, Any], command: str | None, where: Path) -> None:
    """Raises UsageError unless this command wrote the record of a run."""
    if record.get("command") != command:
        raise UsageError(
            f"{where} holds a run of `nextscale {record.get('command')}`, not of `nextscale "
            f"{command}`; give another directory, or that command"
        )


def check_options(
    found: dict[str, Any],
    wanted: dict[str, Any],
    config: TrainingConfig,
    where: Path,
    free: Collection[str] = (),
    may_lengthen: bool = True,
) -> None:
    """Raises UsageError unless a run may be resumed with the given options.

    Args:
        found: recorded options of the run.
        wanted: given options, as a record of the same form.
        config: the given options.
        where: directory of the run.
        free: options that may differ in addition to `FREE`.
        may_lengthen: whether more epochs are allowed if the schedule is endless.
    """
    check_command(found, wanted.get("command"), where)
    usual = json.loads(
        json.dumps(asdict(type(config)()))
    )  # for options that are newer than the run
    was, now = flat(usual) | flat(found), flat(wanted)
    differing = [
        key
        for key in sorted(was.keys() | now.keys())
        if key not in (*FREE, *free) and not same(was.get(key), now.get(key))
    ]
    longer = may_lengthen and is_longer(was.get("epochs"), config.epochs)
    if longer and config.endless:
        differing.remove("epochs")
    if differing:
        other = [
            f"{key} was {json.dumps(was.get(key))}, is {json.dumps(now.get(key))}"
            for key in differing
        ]
        more = len(other) - DIFFERENCES_SHOWN
        rest = f"; {more} more" if more > 0 else ""
        advice = "give another directory or the same options"
        if longer and differing == ["epochs"]:
            advice = (
                f"a {config.schedule} schedule ends with the epochs that it was started with: "
                f"train on with --init {where} and another --out"
            )
        raise UsageError(
            f"{where} holds a run of another configuration "
            f"({'; '.join(other[:DIFFERENCES_SHOWN])}{rest}); {advice}"
        )
    if not config.resume:
        raise UsageError(
            f"{where} holds a run; continue it with --resume or give another directory"
        )


def planned_epochs(found: dict[str, Any], file: Path) -> float:
    """Epochs for which a run was planned. Raises UsageError if its record is damaged."""
    planned = found.get("planned_epochs", found["epochs"])  # version 0.1 recorded only epochs
    if not is_longer(0, planned) or is_longer(found["epochs"], planned):
        raise UsageError(f"{file}: planned_epochs is {planned!r}; a number up to epochs is needed")
    return float(planned)


def option_notes(found: dict[str, Any], config: TrainingConfig) -> list[str]:
    """Lines on what changes when a run is resumed, given the run's record."""
    notes = []
    if found["epochs"] != config.epochs:
        does = (
            f"the {config.schedule} schedule starts again every {config.restart_epochs:g} epochs"
            if config.restart_epochs
            else f"the learning rate stays at {config.learning_rate:g}"
        )
        notes.append(f"{found['epochs']:g} epochs become {config.epochs:g}: {does}")
    if found.get("max_steps") and not config.max_steps:
        notes.append(f"max_steps was {found['max_steps']} before; now the run goes to its end")
    return notes


def is_longer(was: Any, now: Any) -> bool:
    """Whether both values are numbers of epochs and the second one is larger."""
    numbers = [v for v in (was, now) if isinstance(v, int | float) and not isinstance(v, bool)]
    return len(numbers) == 2 and numbers[0] < numbers[1]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested table as a flat one with dotted keys, as on the command line."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def same(was: Any, now: Any) -> bool:
    """Whether two values are equal or are paths of the same file."""
    if was == now:
        return True
    texts = isinstance(was, str) and isinstance(now, str)
    return texts and os.path.exists(was) and os.path.exists(now) and os.path.samefile(was, now)
