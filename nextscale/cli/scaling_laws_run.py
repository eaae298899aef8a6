"""`nextscale scaling-laws run`: trains a ladder of models."""

from jsonargparse import Namespace

from nextscale.cli.training import THEMES
from nextscale.config.scaling import LadderConfig
from nextscale.console.messages import tell
from nextscale.console.options import Parser, add_config, add_dataclass, from_options
from nextscale.errors import UsageError

THEMES_OF_ALL_RUNS = {
    f"training: {title}": " ".join(f"training.{name}" for name in names.split())
    for title, names in THEMES.items()
}


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    add_dataclass(parser, LadderConfig, themes=THEMES_OF_ALL_RUNS)


def run(options: Namespace) -> int:
    """Trains what is neither finished nor taken."""
    config = from_options(LadderConfig, options)
    if not config.out:
        raise UsageError("a ladder needs a directory; give --out DIRECTORY")
    from nextscale.scaling_laws.ladder import climb

    missing = climb(config, tell)
    if missing.failed:
        told = "; ".join(f"{name} ended with code {code}" for name, code in missing.failed.items())
        raise UsageError(f"trainings failed: {told}; run this again to go on with them")
    for name in missing.taken:
        tell(f"{name}: another process trains it")
    runs = len(config.runs())
    print(f"{runs - len(missing.taken)} of {runs} runs are in {config.out}")
    return 0
