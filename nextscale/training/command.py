"""What the commands of all trainings share: their options, and how a run ends."""

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nextscale.config.run import TrainingConfig
from nextscale.console.messages import inform
from nextscale.console.options import Parser, add_config, add_dataclass
from nextscale.errors import UsageError
from nextscale.training.run_options import FREE, is_record, options_of, read_options

RECORD = "config.json"

THEMES = {  # groups of the help
    "optimisation": "epochs max_steps batch_size accumulation learning_rate optimizer betas "
    "weight_decay clip ema",
    "schedule": "schedule restart_epochs warmup_epochs warmup_from final weight_decay_end",
    "loss": "label_drop label_smoothing disturb_tokens",
    "speed and memory": "precision compile activation_checkpointing cache_tokens cache",
    "answers": "model.condition model.order model.sub_steps model.head",
    "trunk": "model.norm model.mlp model.positions",
    "output": "log_every validate_every validation_images patience save_every keep export",
}


def add_training_arguments(parser: Parser, kind: type, command: str = "") -> None:
    """Adds the options of a training.

    Args:
        kind: the run's dataclass.
        command: that runs record; empty is that of the program.
    """
    add_config(parser)
    add_dataclass(parser, kind, themes=THEMES)
    command = command or parser.prog.removeprefix("nextscale ")
    parser.open_table = partial(opened, command=command)
    parser.complete = partial(with_recorded, parser, command)


def opened(table: dict[str, Any], file: str, command: str) -> dict[str, Any]:
    """The table of a file of options as it is, but the record of a run as its options.

    Raises:
        UsageError: if it is the record of another command.
    """
    return options_of(table, command, Path(file).parent) if is_record(table) else table


def with_recorded(
    parser: Parser, command: str, words: Sequence[str], presets: Sequence[str]
) -> list[str]:
    """The words of a training, behind the options of the run that it continues.

    Args:
        parser: of the training.
        command: that runs record.
        words: of the line.
        presets: their names in the words, which override what the run records.

    Raises:
        UsageError: if that is a run of another command, or its record is damaged; if there is no
            run, and no options to start one.
    """
    given = parser.parse_args(list(words))
    if not given.resume or not given.out:
        return list(words)
    record = Path(given.out) / RECORD
    if not record.is_file():
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        if options <= {f"--{name.replace('_', '-')}" for name in FREE}:
            raise UsageError(f"{given.out} holds no run to resume; give the options to start one")
        return list(words)
    options = read_options(record, command)
    start = options.get("init") or ""
    if not given.get("init") and Path(start).is_absolute() and not Path(start).exists():
        raise UsageError(
            f"{given.out} was started with --init {start}, which is gone; add --init {given.out}, "
            "whose checkpoint replaces it"
        )
    tables = [options, *(dict(parser.presets[name]) for name in presets)]
    return [*map(as_word, tables), *words]


def as_word(table: Mapping[str, Any]) -> str:
    """A table of options as the parser takes it in place of a file."""
    return f"--config={json.dumps(table, ensure_ascii=False)}"


def add_presets(
    parser: Parser,
    presets: Mapping[str, Any],
    at: str,
    training: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Adds `--preset`, which puts the fields of an architecture at `at`.

    Args:
        training: options of the training itself that come with a preset, by its name.
    """
    parser.add_argument("--preset", help=f"start from an architecture: {', '.join(presets)}")
    parser.presets = {
        name: {f"{at}.{field}": as_option(value) for field, value in asdict(preset).items()}
        | dict(training.get(name, {}))
        for name, preset in presets.items()
    }


def as_option(value: Any) -> Any:
    """A field's value as the parser holds it."""
    return list(value) if isinstance(value, tuple) else value


def check_run(config: TrainingConfig) -> None:
    """Raises UsageError unless the run has a directory to write to."""
    if not config.out:
        raise UsageError("a run needs a directory; give --out DIRECTORY")


def finish(train: Callable[[], Any]) -> int:
    """Trains and prints where the model is; returns 128 + signal where the run was interrupted."""
    from nextscale.training.interruption import Interrupted

    speaks = os.environ.get("RANK", "0") == "0"  # torchrun's; one process speaks for all
    try:
        final = train()
    except Interrupted as stop:
        number = int(stop.args[0])
        if speaks:
            name = signal.Signals(number).name
            inform(
                f"nextscale: stopped by {name} and saved; --resume with the same --out continues"
            )
        return 128 + number
    if speaks:
        inform(f"the model is in {final}")
    return 0
