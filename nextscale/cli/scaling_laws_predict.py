"""`nextscale scaling-laws predict`: loss, error and cost of a model that nobody has trained."""

from jsonargparse import Namespace

from nextscale.config.scaling import PredictConfig
from nextscale.console.messages import tell
from nextscale.console.options import Parser, add_config, add_dataclass, from_options
from nextscale.errors import UsageError


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    parser.add_argument("fit", type=str, help="fit.json of `nextscale scaling-laws fit`")
    add_dataclass(parser, PredictConfig)
    parser.add_argument("--json", type=str, default="", help="file to write")


def run(options: Namespace) -> int:
    """Predicts and prints."""
    config = from_options(PredictConfig, options)
    from nextscale.console.report import check_report, write_report
    from nextscale.scaling_laws.curves import QUANTITIES
    from nextscale.scaling_laws.predict import predict
    from nextscale.storage.files import read_json

    check_report(options.json, options.fit)
    report = read_json(options.fit)
    if not {"laws", "models", "cost"} <= report.keys():
        raise UsageError(
            f"{options.fit} holds no fit; `nextscale scaling-laws fit` writes fit.json"
        )
    try:
        found = predict(report, config)
    except UsageError as error:
        raise UsageError(f"{options.fit}: {error}") from error
    if options.json:
        write_report(found, options.json)
    print(f"N = {config.params:.3g} weights in the blocks, {found['images']:,.0f} images")
    for quantity, words in QUANTITIES.items():
        guess = found[quantity]
        between = f"{guess['low']:.4f} to {guess['high']:.4f}"
        floored = guess.get("with_a_floor")
        other = "" if floored is None else f"; with a floor {floored:.4f}"
        print(f"{words}: {guess['predicted']:.4f} ({config.confidence:.0%}: {between}{other})")
        if guess["doubt"]:
            tell(f"{words}: {guess['doubt']}")
    hours = f", {found['hours']:,.1f} hours at {config.rate:,.0f} GFLOP/s" if config.rate else ""
    print(f"training: {found['flops']:.3g} FLOP{hours}")
    return 0
