"""`nextscale train ar`: the next-token baseline."""

from jsonargparse import Namespace

from nextscale.cli.train_var import add_arguments as add_var_arguments
from nextscale.cli.train_var import train
from nextscale.config.run import VarTraining
from nextscale.console.options import Parser, from_options
from nextscale.errors import UsageError


def add_arguments(parser: Parser) -> None:
    """Adds this command's options: those of `train var`, with the order of tokens."""
    add_var_arguments(parser)
    parser.presets = {
        name: {key: value for key, value in preset.items() if key != "model.order"}
        for name, preset in parser.presets.items()
    }
    parser.set_defaults({"model.order": "raster"})


def run(options: Namespace) -> int:
    """Trains a next-token transformer as the options say."""
    config = from_options(VarTraining, options)
    if config.model.order == "scales":
        raise UsageError("order scales is next-scale; use `nextscale train var`")
    return train(config, "train ar")
