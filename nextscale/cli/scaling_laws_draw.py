"""`nextscale scaling-laws draw`: one class and seed over model size and training (VAR Fig. 7)."""

from pathlib import Path

from jsonargparse import Namespace

from nextscale.cli.inference import (
    Output,
    add_device_argument,
    add_sampling_arguments,
    add_seed_argument,
    given_sampling,
    load_model,
    take_seed,
)
from nextscale.cli.options import Parser, add_config
from nextscale.errors import UsageError

SIZES, STAGES = 3, 3  # of the sheet, as in the paper


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    add = parser.add_argument
    add("runs", type=str, nargs="+", help="directories of `nextscale scaling-laws run`")
    add("--label", type=str | int, default=0, help="number or name of the class")
    add_seed_argument(parser, "of every image")
    add_sampling_arguments(parser)
    add_device_argument(parser)
    add("--out", type=str, default="scaling", help="directory of the sheet")


def run(options: Namespace) -> int:
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
            load_model(str(place), options.device).sample(
                options.label, seed=options.seed, **sampling
            )[0]
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
