"""`nextscale estimate`: parameters, arithmetic, memory and time, before anything is started."""

from dataclasses import replace

from jsonargparse import Namespace

from nextscale.cli import train
from nextscale.config.model import ModelConfig
from nextscale.config.presets import TOKENIZERS, TRANSFORMERS
from nextscale.config.run import TokenizerTraining, VarTraining
from nextscale.config.speed import TASKS, EstimateConfig
from nextscale.console.options import (
    Parser,
    add_config,
    add_dataclass,
    add_device_argument,
    from_options,
    parser_for,
)
from nextscale.console.progress import progress
from nextscale.console.report import check_report, write_report
from nextscale.console.tables import table
from nextscale.errors import UsageError
from nextscale.scales import parse_scales
from nextscale.storage.documents import parse_document, read_document

OF_TRAINING = ("tasks", "batch", "activation_checkpointing")  # options that a training has


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    add_dataclass(parser, EstimateConfig)
    add_device_argument(parser)


def run(options: Namespace) -> int:
    """Estimates and prints."""
    config = from_options(EstimateConfig, options)
    check_report(config.json, config.training, config.model)
    from nextscale.machine.devices import usable_device
    from nextscale.speed.estimate import estimate, runs

    device = usable_device(options.device)
    config, whole = described(config)
    with progress("estimating", runs(config, device), "rows") as advance:
        report = estimate(config, device, advance, whole)
    if config.json:
        write_report(report, config.json)
    rows = [
        {
            "task": "sample" if row["task"] == "sample" else f"train {row['task']}",
            "precision": row["precision"],
            "batch": str(row["batch"]),
            "parameters": f"{row['parameters']:,}",
            "GFLOP an image": f"{row['flops_per_image'] / 1e9:.4g}",
            "memory, GiB": f"{row['memory_bytes'] / 2**30:.2f}",
            "seconds an image": f"{row['seconds_per_image']:.3g}",
        }
        for row in report["rows"]
    ]
    print(table(rows))
    print(f"\nseconds at {report['rate_gflops']:.4g} GFLOP/s")
    return 0


def described(config: EstimateConfig) -> tuple[EstimateConfig, ModelConfig]:
    """Returns the options with tasks, batch and name, and the networks that they describe.

    Raises:
        UsageError: if two ways to name the networks are given, or a recipe is another command's.
    """
    from nextscale.checkpoints import checkpoint

    presets = [name for name in (config.tokenizer_preset, config.transformer_preset) if name]
    if config.training and presets:
        raise UsageError("both --training and a preset are given; give one of them")
    if config.training:
        plain = EstimateConfig()
        changed = [name for name in OF_TRAINING if getattr(config, name) != getattr(plain, name)]
        if names := [f"--{name.replace('_', '-')}" for name in changed]:
            raise UsageError(f"--training says that itself; leave out {', '.join(names)}")
        return of_training(config)
    if not presets:
        return config, checkpoint.config_of(config.model)
    if config.tokenizer_preset:
        tokenizer = TOKENIZERS[config.tokenizer_preset]
    else:
        tokenizer = checkpoint.config_of(config.model).tokenizer
    model = TRANSFORMERS[config.transformer_preset] if config.transformer_preset else None
    tasks = ("tokenizer",) if model is None and config.tasks == TASKS else config.tasks
    name = " and ".join(presets)
    return replace(config, model=name, tasks=tasks), ModelConfig(tokenizer, model)


def of_training(config: EstimateConfig) -> tuple[EstimateConfig, ModelConfig]:
    """What a training's options say: its network, task and micro-batch.

    Where they name no tokenizer for a transformer, it is that of the model given.
    """
    file = config.training
    values = parse_document(read_document(file), file)
    first = isinstance(values.get("tokenizer"), dict) or values.get("preset") in TOKENIZERS
    stage, kind = ("tokenizer", TokenizerTraining) if first else ("var", VarTraining)
    parser = parser_for(f"nextscale train {stage}", "")
    add_training_options, _ = train.COMMANDS[stage]
    add_training_options(parser)
    run = from_options(kind, parser.parse(["--config", file]))
    whole = networks_of(run, config.model)
    if isinstance(run, VarTraining):
        config = replace(config, activation_checkpointing=run.activation_checkpointing)
    tasks, batch = ("tokenizer" if first else "transformer",), run.batch_size // run.accumulation
    return replace(config, model=file, tasks=tasks, batch=(batch,)), whole


def networks_of(run: TokenizerTraining | VarTraining, given: str) -> ModelConfig:
    """The networks that a training would have.

    Args:
        given: model whose tokenizer serves a transformer, where the training names none.
    """
    from nextscale.checkpoints.checkpoint import config_of

    start = config_of(run.init) if run.init else None
    model = None
    if isinstance(run, TokenizerTraining):
        tokenizer = start.tokenizer if start else run.tokenizer
    else:
        tokenizer = config_of(run.tokenizer or run.init or given).tokenizer
        model = start.model if start else run.model
    if run.scales:
        tokenizer = replace(tokenizer, scales=parse_scales(run.scales))
    return ModelConfig(tokenizer, model)
