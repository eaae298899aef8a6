"""`nextscale scaling-laws fit`: power laws of finished runs, a page and figures of them."""

from jsonargparse import Namespace

from nextscale.config.scaling import FitConfig
from nextscale.console.options import Parser, add_config, add_dataclass, from_options
from nextscale.console.output import Output


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    what = "directories of `nextscale scaling-laws run`, or of single runs of `nextscale train var`"
    parser.add_argument("runs", type=str, nargs="+", help=what)
    add_dataclass(parser, FitConfig)


def run(options: Namespace) -> int:
    """Fits laws and writes the report."""
    config, output = from_options(FitConfig, options), Output(options.out)
    from nextscale.scaling_laws.curves import read_ladder
    from nextscale.scaling_laws.figures import draw_frontier, draw_laws, draw_scales, draw_shares
    from nextscale.scaling_laws.page import page
    from nextscale.scaling_laws.report import analyse

    ladder, shares, sweeps, left_out = read_ladder(options.runs)
    report = analyse(ladder, shares, sweeps, config)
    words = page(report, left_out)
    output.table("fit.json", {**report, "left_out": left_out})
    output.write("fit.md", lambda file: file.write(words.encode()))
    output.write("laws.png", lambda file: draw_laws(report, file))
    output.write("frontier.png", lambda file: draw_frontier(ladder, report, file))
    output.write("scales.png", lambda file: draw_scales(report, ladder, file))
    if shares:
        output.write("shares.png", lambda file: draw_shares(ladder, shares, file))
    print(words)
    return 0
