"""What the commands of both training stages share: options of a run, and how one ends."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from nextscale.cli.options import Parser, add_config, add_dataclass, tell
from nextscale.config.run import TrainingConfig
from nextscale.errors import UsageError

THEMES = {  # groups of the help
    "optimisation": "epochs max_steps batch_size accumulation learning_rate optimizer betas "
    "weight_decay clip ema",
    "schedule": "schedule warmup_epochs warmup_from final weight_decay_end",
    "loss": "label_drop label_smoothing disturb_tokens",
    "speed and memory": "precision compile activation_checkpointing cache_tokens cache",
    "output": "log_every validate_every validation_images save_every keep export",
}


def add_training_arguments(parser: Parser, kind: type) -> None:
    """Adds the options of a training, given the run's dataclass."""
    add_config(parser)
    add_dataclass(parser, kind, themes=THEMES)


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
