"""`nextscale train`: tokenizer, next-scale transformer, next-token baseline and classifier."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from nextscale.config.presets import TOKENIZER_TRAINING, TOKENIZERS, TRANSFORMERS
from nextscale.config.registry import NEXT_TOKEN
from nextscale.config.run import ClassifierTraining, TokenizerTraining, VarTraining
from nextscale.console.messages import inform
from nextscale.console.options import Parser, from_options
from nextscale.errors import UsageError
from nextscale.training.command import add_presets, add_training_arguments, check_run, finish

if TYPE_CHECKING:
    from nextscale.pipeline import Pipeline
    from nextscale.training.directory import RunDirectory


def add_tokenizer_arguments(parser: Parser) -> None:
    """Adds the options of `train tokenizer`."""
    add_presets(parser, TOKENIZERS, "tokenizer", TOKENIZER_TRAINING)
    add_training_arguments(parser, TokenizerTraining)


def train_tokenizer(options: Namespace) -> int:
    """Trains a tokenizer as the options say."""
    config = from_options(TokenizerTraining, options)
    check_run(config)
    from nextscale.data.source import open_data
    from nextscale.data.summary import summary
    from nextscale.training.engine import start_accelerator
    from nextscale.training.loop import Run
    from nextscale.training.start import start_tokenizer
    from nextscale.training.tokenizer_stage import TokenizerStage

    config, start, notes = start_tokenizer(config)
    architecture = config.tokenizer
    size, channels = architecture.image_size, architecture.image_channels
    training, validation = open_data(config.data, size, channels, config.seed)
    stage = TokenizerStage(config, start)
    stage.notes += [*summary(config.data, training, validation, size, channels), *notes]
    accelerator = start_accelerator(config)
    return finish(Run(config, stage, training, validation, accelerator).train)


def add_var_arguments(parser: Parser) -> None:
    """Adds the options of `train var`."""
    add_presets(parser, TRANSFORMERS, "model")
    add_training_arguments(parser, VarTraining)


def train_var(options: Namespace) -> int:
    """Trains a next-scale transformer as the options say."""
    config = from_options(VarTraining, options)
    if config.model.order in NEXT_TOKEN:
        raise UsageError(f"order {config.model.order} is next-token; use `nextscale train ar`")
    return train_transformer(config, "train var")


def add_ar_arguments(parser: Parser) -> None:
    """Adds the options of `train ar`: those of `train var`, with the order of tokens."""
    add_var_arguments(parser)
    parser.presets = {
        name: {key: value for key, value in preset.items() if key != "model.order"}
        for name, preset in parser.presets.items()
    }
    parser.set_defaults({"model.order": "raster"})


def train_ar(options: Namespace) -> int:
    """Trains a next-token transformer as the options say."""
    config = from_options(VarTraining, options)
    if config.model.order not in NEXT_TOKEN:
        raise UsageError(f"order {config.model.order} is next-scale; use `nextscale train var`")
    return train_transformer(config, "train ar")


def train_transformer(config: VarTraining, command: str) -> int:
    """Trains a transformer; `command` is recorded in the run's directory."""
    check_run(config)
    from nextscale.data.order import steps_in_epoch
    from nextscale.data.record import joined
    from nextscale.data.source import open_data
    from nextscale.data.summary import summary
    from nextscale.data.tokens import cache_tokens
    from nextscale.training.directory import RunDirectory
    from nextscale.training.engine import start_accelerator
    from nextscale.training.loop import Run
    from nextscale.training.start import load_tokenizer, start_var
    from nextscale.training.transformer_stage import TransformerStage

    tokenizer, notes = load_tokenizer(config)
    architecture = tokenizer.tokenizer.config
    size, channels = architecture.image_size, architecture.image_channels
    training, validation = open_data(config.data, size, channels, config.seed)
    config, model, costs = start_var(config, architecture, training.names)
    directory = RunDirectory(Path(config.out), writes=False)
    directory.check(command, config, joined(training.record, validation.record))
    check_tokenizer(directory, tokenizer)
    steps_in_epoch(len(training), config.batch_size)  # both fail before hours of encoding
    accelerator = start_accelerator(config)
    if accelerator.is_main_process:
        for line in summary(config.data, training, validation, size, channels):
            inform(line)
    if config.cache_tokens:
        caches = Path(config.cache or Path(config.out).parent / "tokens")
        tokenizer.to(accelerator.device)
        training, validation = (
            cache_tokens(
                tokenizer.tokenizer,
                tokenizer.config.tokenizer_hash,
                source,
                copies,
                caches,
                rank=accelerator.process_index,
                processes=accelerator.num_processes,
                wait=accelerator.wait_for_everyone,
                progress=report_progress,
            )
            for source, copies in ((training, config.cache_tokens), (validation, 1))
        )
        if skipped := training.skipped + validation.skipped:
            notes.append(
                f"{skipped} files could not be read when tokens were encoded; their neighbours "
                "stand for them, and --data.strict names the first"
            )
    stage = TransformerStage(config, training.names, tokenizer, model)
    stage.notes += notes + costs
    return finish(Run(config, stage, training, validation, accelerator).train)


def check_tokenizer(run: "RunDirectory", tokenizer: "Pipeline") -> None:
    """Raises UsageError if a run that is continued began with another tokenizer."""
    from nextscale.checkpoints.checkpoint import read_config

    latest = run.latest()
    if latest is None:
        return
    was, now = read_config(latest).tokenizer_hash, tokenizer.config.tokenizer_hash
    if was != now:
        raise UsageError(
            f"{run.path} was trained with the tokenizer {was[:12]}, but --tokenizer is {now[:12]} "
            "now; give the one that it began with"
        )


def report_progress(done: int, total: int) -> None:
    """A line now and then while tokens are encoded."""
    if done % 40 == 0 or done == total:
        inform(f"encoding tokens: {done} of {total} chunks")


def add_classifier_arguments(parser: Parser) -> None:
    """Adds the options of `train classifier`."""
    add_training_arguments(parser, ClassifierTraining)


def train_classifier(options: Namespace) -> int:
    """Trains a classifier as the options say."""
    config = from_options(ClassifierTraining, options)
    check_run(config)
    from nextscale.data.source import open_data
    from nextscale.data.summary import summary
    from nextscale.training.classifier_stage import ClassifierStage, fitted_to
    from nextscale.training.engine import start_accelerator
    from nextscale.training.loop import Run

    wanted = config.classifier
    size, channels = wanted.image_size, wanted.image_channels
    training, validation = open_data(config.data, size, channels, config.seed)
    if not training.names:
        raise UsageError(f"{config.data.path} has no classes; a classifier needs labelled images")
    config = fitted_to(config, training.names)
    stage = ClassifierStage(config)
    stage.notes += summary(config.data, training, validation, size, channels)
    accelerator = start_accelerator(config)
    return finish(Run(config, stage, training, validation, accelerator).train)


COMMANDS = {
    "tokenizer": (add_tokenizer_arguments, train_tokenizer),
    "var": (add_var_arguments, train_var),
    "ar": (add_ar_arguments, train_ar),
    "classifier": (add_classifier_arguments, train_classifier),
}
