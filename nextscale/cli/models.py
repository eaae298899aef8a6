"""`nextscale models`: what can be loaded by name."""

import json

from jsonargparse import Namespace

from nextscale.console.options import Parser


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> int:
    """Prints the models, bundled ones first."""
    from nextscale.checkpoints.checkpoint import known_models

    models = known_models()
    if options.json:
        print(json.dumps([{"name": name, "what": what} for name, what in models.items()], indent=2))
        return 0
    width = max(map(len, models)) + 2
    for name, what in models.items():
        print(f"{name:<{width}}{what}")
    return 0
