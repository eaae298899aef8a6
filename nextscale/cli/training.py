"""What the commands of both training stages share: options of a run, and how one ends."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from nextscale.cli.options import Parser, add_config, add_dataclass, preset_names, tell
from nextscale.cli.options import read_options as read_file
from nextscale.config.run import TrainingConfig
from nextscale.errors import UsageError
from nextscale.training.options import is_record, read_options

RECORD = "config.json"

THEMES = {  # groups of the help
    "optimisation": "epochs max_steps batch_size accumulation learning_rate optimizer betas "
    "weight_decay clip ema",
    "schedule": "schedule restart_epochs warmup_epochs warmup_from final weight_decay_end",
    "loss": "label_drop label_smoothing disturb_tokens",
    "speed and memory": "precision compile activation_checkpointing cache_tokens cache",
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
    parser.complete = partial(with_recorded, command=command)


def with_recorded(parser: Parser, words: Sequence[str], command: str) -> list[str]:
    """The words of a training with the options of the run that it continues, or is made like.

    The record of a run may be given as `--config`. Where `--resume` finds a run, its options go
    before all others.

    Raises:
        UsageError: if that is a run of another command, or its record is damaged.
    """
    presets = [parser.presets[name] for name in preset_names(words)]
    words = [opened(word, command) for word in joined(words, "--config")]
    given = parser.parse_args(words)
    record = Path(given.out) / RECORD if given.out else None
    if not given.resume or record is None or not record.is_file():
        return words
    tables = [read_options(record, command), *map(dict, presets)]
    return [*map(as_word, tables), *words]


def joined(words: Sequence[str], option: str) -> list[str]:
    """The words with every value of an option in the option's own word."""
    rest, found = iter(words), []
    for word in rest:
        value = next(rest, None) if word == option else None
        found.append(word if value is None else f"{word}={value}")
    return found


def opened(word: str, command: str) -> str:
    """A word as it is, but the record of a run as its options."""
    name, equals, file = word.partition("=")
    if name != "--config" or not equals or not is_record(read_file(file)):
        return word
    return as_word(read_options(Path(file), command))


def as_word(table: Mapping[str, Any]) -> str:
    """A table of options as the parser takes it in place of a file."""
    return f"--config={json.dumps(table, ensure_ascii=False)}"


def add_presets(parser: Parser, presets: Mapping[str, Any], at: str) -> None:
    """Adds `--preset`, which puts the fields of an architecture at `at`."""
    parser.add_argument("--preset", help=f"start from an architecture: {', '.join(presets)}")
    parser.presets = {
        name: {f"{at}.{field}": as_option(value) for field, value in asdict(preset).items()}
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
    """Trains and tells where the model is; returns 128 + signal where the run was interrupted."""
    from nextscale.training.interruption import Interrupted

    speaks = os.environ.get("RANK", "0") == "0"  # torchrun's; one process speaks for all
    try:
        final = train()
    except Interrupted as stop:
        number = int(stop.args[0])
        if speaks:
            tell(f"nextscale: stopped by signal {number} and saved; add --resume to continue")
        return 128 + number
    if speaks:
        tell(f"the model is in {final}")
    return 0
