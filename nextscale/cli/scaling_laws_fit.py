"""`nextscale scaling-laws fit`: power laws of finished runs, a page and figures of them."""

from pathlib import Path

from jsonargparse import Namespace

from nextscale.cli.inference import Output
from nextscale.cli.options import Parser, add_config, add_dataclass, from_options
from nextscale.config.scaling import FitConfig


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    what = "directories of `nextscale scaling-laws run`, or of single runs of `nextscale train var`"
    parser.add_argument("runs", type=str, nargs="+", help=what)
    add_dataclass(parser, FitConfig)


def run(options: Namespace) -> int:
    """Fits laws and writes what they tell."""
    config, output = from_options(FitConfig, options), Output(options.out)
    from nextscale.scaling_laws.curves import read_ladder
    from nextscale.scaling_laws.figures import draw_frontier, draw_laws, draw_scales
    from nextscale.scaling_laws.page import page
    from nextscale.scaling_laws.report import analyse

    ladder, shares, sweeps, left_out = read_ladder(options.runs)
    report = analyse(ladder, shares, sweeps, config)
    words = page(report, left_out)
    output.table("fit.json", {**report, "left_out": left_out})
    output.write("fit.md", lambda file: file.write(words.encode()))
    folder = Path(config.out)
    draw_laws(report, folder / "laws.png")
    draw_frontier(ladder, report, folder / "frontier.png")
    draw_scales(report, ladder, folder / "scales.png")
    print(words)
    return 0
