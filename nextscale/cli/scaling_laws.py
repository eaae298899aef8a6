"""`nextscale scaling-laws`: train a ladder of models, fit laws, predict, draw (VAR Sec. 4.2)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from nextscale.cli.inference import (
    SAID_NONE,
    add_sampling_arguments,
    add_seed_argument,
    given_sampling,
    load_model,
    read_wanted,
    take_seed,
    typed_label,
)
from nextscale.config.scaling import FitConfig, LadderConfig, PredictConfig
from nextscale.console.messages import inform
from nextscale.console.options import (
    Parser,
    add_config,
    add_dataclass,
    add_device_argument,
    from_options,
)
from nextscale.console.output import Output
from nextscale.errors import UsageError
from nextscale.training.command import THEMES

if TYPE_CHECKING:
    from PIL import Image

    from nextscale.pipeline import Pipeline

SIZES, STAGES = 3, 3  # of the sheet, as in the paper
THEMES_OF_ALL_RUNS = {
    f"training: {title}": " ".join(f"training.{name}" for name in names.split())
    for title, names in THEMES.items()
}


def add_ladder_arguments(parser: Parser) -> None:
    """Adds the options of `scaling-laws run`."""
    add_config(parser)
    add_dataclass(parser, LadderConfig, themes=THEMES_OF_ALL_RUNS)


def train_ladder(options: Namespace) -> int:
    """Trains what is neither finished nor taken."""
    config = from_options(LadderConfig, options)
    if not config.out:
        raise UsageError("a ladder needs a directory; give --out DIRECTORY")
    from nextscale.scaling_laws.ladder import climb

    missing = climb(config, inform)
    if missing.failed:
        told = "; ".join(f"{name} ended with code {code}" for name, code in missing.failed.items())
        raise UsageError(f"trainings failed: {told}; run this again to go on with them")
    for name in missing.taken:
        inform(f"{name}: another process trains it")
    runs = len(config.runs())
    print(f"{runs - len(missing.taken)} of {runs} runs are in {config.out}")
    return 0


def add_fit_arguments(parser: Parser) -> None:
    """Adds the options of `scaling-laws fit`."""
    add_config(parser)
    what = "directories of `nextscale scaling-laws run`, or of single runs of `nextscale train var`"
    parser.add_argument("runs", type=str, nargs="+", help=what)
    add_dataclass(parser, FitConfig)


def fit_runs(options: Namespace) -> int:
    """Fits laws and writes the report."""
    config, output = from_options(FitConfig, options), Output(options.out)
    from nextscale.scaling_laws.curves import read_ladder
    from nextscale.scaling_laws.figures import draw_frontier, draw_laws, draw_scales, draw_shares
    from nextscale.scaling_laws.laws import analyse
    from nextscale.scaling_laws.markdown import as_markdown

    ladder, shares, sweeps, left_out = read_ladder(options.runs)
    report = analyse(ladder, shares, sweeps, config)
    words = as_markdown(report, left_out)
    output.table("fit.json", {**report, "left_out": left_out})
    output.write("fit.md", lambda file: file.write(words.encode()))
    output.write("laws.png", lambda file: draw_laws(report, file))
    output.write("frontier.png", lambda file: draw_frontier(ladder, report, file))
    output.write("scales.png", lambda file: draw_scales(report, ladder, file))
    if shares:
        output.write("shares.png", lambda file: draw_shares(ladder, shares, file))
    print(words)
    return 0


def add_prediction_arguments(parser: Parser) -> None:
    """Adds the options of `scaling-laws predict`."""
    add_config(parser)
    parser.add_argument("fit", type=str, help="fit.json of `nextscale scaling-laws fit`")
    add_dataclass(parser, PredictConfig)
    parser.add_argument("--json", type=str, default="", help="file to write")


def predict_model(options: Namespace) -> int:
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
            inform(f"{words}: {guess['doubt']}")
    hours = f", {found['hours']:,.1f} hours at {config.rate:,.0f} GFLOP/s" if config.rate else ""
    print(f"training: {found['flops']:.3g} FLOP{hours}")
    return 0


def add_sheet_arguments(parser: Parser) -> None:
    """Adds the options of `scaling-laws draw`."""
    add_config(parser)
    add = parser.add_argument
    add("runs", type=str, nargs="+", help="directories of `nextscale scaling-laws run`")
    label = f"name of the class, or its number {SAID_NONE} [the first class]"
    add("--label", type=typed_label, help=label)
    add_seed_argument(parser, "of every image")
    add_sampling_arguments(parser)
    add_device_argument(parser)
    add("--out", type=str, default="scaling", help="directory of the sheet")


def draw_ladder(options: Namespace) -> int:
    """Draws the sheet: models grow downwards, training to the right."""
    take_seed(options)
    sampling, output = given_sampling(options), Output(options.out)
    from nextscale.scaling_laws.curves import read_ladder
    from nextscale.scaling_laws.figures import draw_sheet

    ladder, *_ = read_ladder(options.runs)
    chosen = spread(ladder, SIZES)
    places = [stages(curve.folder) for curve in chosen]
    rows = [
        [
            draw_one(load_model(str(place), options.device), options.label, options.seed, sampling)
            for place in row
        ]
        for row in places
    ]
    sizes = [f"N = {curve.parameters:,}" for curve in chosen]
    steps = [int(place.name.removeprefix("step-")) for place in places[0]]
    shares = [f"{step / chosen[0].steps:.0%} of the training" for step in steps]
    output.write("size_and_training.png", lambda file: draw_sheet(rows, sizes, shares, file))
    print(f"{len(rows)} models at {len(shares)} stages; see {output.directory}")
    return 0


def draw_one(
    pipe: "Pipeline", label: str | int | None, seed: int, sampling: dict[str, Any]
) -> "Image.Image":
    """One image of a label as it is typed; None is the first class."""
    given = pipe.model.condition.all()[:1] if label is None else read_wanted(pipe, [label])
    return pipe.sample(given.tolist(), seed=seed, **sampling)[0]


def spread(items: list, count: int) -> list:
    """So many of a list, its first and last among them, evenly spread."""
    last = len(items) - 1
    return [items[round(i * last / (count - 1))] for i in range(count)]


def stages(folder: Path) -> list[Path]:
    """Checkpoints of a run, its first and last among them, evenly spread.

    Raises:
        UsageError: if it kept too few of them.
    """
    saved = sorted((folder / "checkpoints").glob("step-*"))
    if len(saved) < STAGES:
        raise UsageError(
            f"{folder} has {len(saved)} checkpoints, {STAGES} are needed; train it with a larger "
            "--training.keep and a smaller --training.save-every"
        )
    return spread(saved, STAGES)


COMMANDS = {
    "run": (add_ladder_arguments, train_ladder),
    "fit": (add_fit_arguments, fit_runs),
    "predict": (add_prediction_arguments, predict_model),
    "draw": (add_sheet_arguments, draw_ladder),
}
