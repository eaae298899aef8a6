"""`nextscale train tokenizer`."""

from jsonargparse import Namespace

from nextscale.cli.training import add_presets, add_training_arguments, check_run, finish
from nextscale.config.presets import TOKENIZER_TRAINING, TOKENIZERS
from nextscale.config.run import TokenizerTraining
from nextscale.console.options import Parser, from_options


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_presets(parser, TOKENIZERS, "tokenizer", TOKENIZER_TRAINING)
    add_training_arguments(parser, TokenizerTraining)


def run(options: Namespace) -> int:
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
