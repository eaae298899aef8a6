"""`nextscale scaling-laws draw`: one class and seed over model size and training (VAR Fig. 7)."""

from pathlib import Path

from jsonargparse import Namespace

from nextscale.cli.inference import (
    Output,
    add_device_argument,
    add_sampling_arguments,
    given_sampling,
    load_model,
)
from nextscale.cli.options import Parser, add_config, tell

SIZES, STAGES = 3, 3  # of the sheet, as in the paper


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_config(parser)
    add = parser.add_argument
    add("runs", type=str, nargs="+", help="directories of `nextscale scaling-laws run`")
    add("--label", type=str | int, default=0, help="number or name of the class")
    add("--seed", type=int, default=0, help="of every image")
    add_sampling_arguments(parser)
    add_device_argument(parser)
    add("--out", type=str, default="scaling", help="directory of the sheet")


def run(options: Namespace) -> int:
    """Draws the sheet: models grow downwards, training to the right."""
    sampling, output = given_sampling(options), Output(options.out)
    from nextscale.pictures import grid
    from nextscale.scaling_laws.curves import read_ladder, run_folders

    ladder, *_ = read_ladder(options.runs)
    folders = {folder.name: folder for folder in run_folders(options.runs)}
    rows = []
    for curve in spread(ladder, SIZES):
        places = stages(folders[curve.name])
        tell(f"{curve.name}: {', '.join(place.name for place in places)}")
        pipes = [load_model(str(place), options.device) for place in places]
        rows.append(
            [pipe.sample(options.label, seed=options.seed, **sampling)[0] for pipe in pipes]
        )
    output.picture("size_and_training.png", grid(rows))
    print(f"{len(rows)} models at {len(rows[0])} stages; see {output.directory}")
    return 0


def spread(items: list, count: int) -> list:
    """So many of a list, its first and last among them, evenly spread."""
    last = len(items) - 1
    return [items[round(i * last / (count - 1))] for i in range(count)]


def stages(folder: Path) -> list[Path]:
    """Checkpoints of a run, its first and last among them, evenly spread."""
    return spread(sorted((folder / "checkpoints").glob("step-*")), STAGES)
