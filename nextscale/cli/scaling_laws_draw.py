"""`nextscale scaling-laws draw`: one class and seed over model size and training (VAR Fig. 7)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from nextscale.cli.inference import (
    SAID_NONE,
    add_device_argument,
    add_sampling_arguments,
    add_seed_argument,
    given_sampling,
    load_model,
    read_wanted,
    take_seed,
    typed_label,
)
from nextscale.console.options import Parser, add_config
from nextscale.console.output import Output
from nextscale.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from nextscale.pipeline import Pipeline

SIZES, STAGES = 3, 3  # of the sheet, as in the paper


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    add = parser.add_argument
    add("runs", type=str, nargs="+", help="directories of `nextscale scaling-laws run`")
    label = f"name of the class, or its number {SAID_NONE} [the first class]"
    add("--label", type=typed_label, help=label)
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
            draw(load_model(str(place), options.device), options.label, options.seed, sampling)
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


def draw(
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
