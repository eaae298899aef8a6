"""`nextscale train classifier`."""

from jsonargparse import Namespace

from nextscale.cli.training import add_training_arguments, check_run, finish
from nextscale.config.run import ClassifierTraining
from nextscale.console.options import Parser, from_options
from nextscale.errors import UsageError


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_training_arguments(parser, ClassifierTraining)


def run(options: Namespace) -> int:
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
