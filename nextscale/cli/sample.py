"""`nextscale sample`: draws images, each with its own seed, and records what repeats them."""

import random
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from nextscale.cli.inference import (
    SAID_NONE,
    accelerate,
    add_acceleration_arguments,
    add_model_arguments,
    add_rejection_arguments,
    add_running_arguments,
    add_sampling_arguments,
    add_seed_argument,
    check_between,
    check_seeds,
    given_sampling,
    judge_of,
    load_model,
    precision_of,
    read_wanted,
    take_seed,
    typed_label,
)
from nextscale.config.evaluation import MOST_IMAGES
from nextscale.config.seeds import all_seeds_from
from nextscale.console.messages import inform
from nextscale.console.options import Parser
from nextscale.console.output import Output
from nextscale.console.progress import progress
from nextscale.errors import UsageError
from nextscale.machine.memory import check_memory

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from nextscale.pipeline import Pipeline

MANY_CLASSES = 16  # of models with more, a few are drawn unless labels or a count are given
A_FEW = 8
GRID_SHOWN = 400  # pictures of a grid, which is held in memory
GRID_COLUMNS = 20  # at most, unless given
RECORDED = 1000  # bytes that the record of an image takes at least, in memory
LABEL_SHOWN = 40  # characters of a label in a file's name


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_model_arguments(parser)
    add = parser.add_argument
    labels = f"names, or numbers of classes {SAID_NONE} [all classes in turn]"
    add("--labels", type=typed_label, nargs="+", help=labels)
    add("--count", type=int, help="images, spread evenly over the labels [one a label]")
    add_seed_argument(parser, "image i is drawn with seed + i")
    add_sampling_arguments(parser)
    add_rejection_arguments(parser)
    add_acceleration_arguments(parser)
    add = parser.add_argument_group("output").add_argument
    add("--grow", action="store_true", help="also growing.gif, the grid after every scale")
    add(
        "--tile",
        type=int,
        default=0,
        help="side of a decoded tile in positions of the token map, 0 is off; saves memory",
    )
    add("--grid-columns", type=int, help="of the grid, sorted by label [a row for each label]")
    add_running_arguments(parser)


def run(options: Namespace) -> int:
    """Samples images and writes them."""
    from nextscale.generation.batches import Draws, draw_many, drawing_of
    from nextscale.generation.rejection import check_judged
    from nextscale.pictures.pixels import to_pictures
    from nextscale.tokenizer.tiles import check_tile

    check_between(1, MOST_IMAGES, count=options.count, batch=options.batch)
    check_between(1, GRID_SHOWN, grid_columns=options.grid_columns)
    take_seed(options)
    check_tile(options.tile)
    given, output = given_sampling(options), Output(options.out, "samples.json")
    pipe = load_model(options.model, options.device, precision_of(options))
    wanted = choose_wanted(pipe, options.labels, options.count, options.seed)
    sampling, judge = pipe.sampling(given), judge_of(options, pipe)
    if judge is not None:
        check_judged(wanted.tolist(), pipe.model.config.classes)
    if judge is not None and options.grow:
        raise UsageError("--grow shows images while they are sampled; leave it or --keep out")
    draws = Draws(wanted, all_seeds_from(options.seed), options.keep, judge)
    count, drawn = len(wanted), len(draws.given)
    check_memory(RECORDED * count, f"the record of {count:,} images", "sample fewer")
    if judge is not None:
        pipe.check_pictures(drawn)
    check_seeds(options.seed, drawn - 1)
    made = accelerate(pipe, options, min(options.batch, drawn), sampling)
    sheet = Sheet(pipe, options, output, wanted, {"sampling": vars(sampling), **made})
    scores, kept, seconds = [], [], 0.0
    draw = drawing_of(pipe.model, pipe.tokenizer, sampling, grow=options.grow, tile=options.tile)
    with progress("sampling", drawn) as advance:
        begin = time.perf_counter()
        for batch in draw_many(draw, draws, draws.parts(options.batch)):
            grown = [to_pictures(image) for image in batch.images]
            seconds += time.perf_counter() - begin
            if judge is None and batch.part.start == 0:
                sheet.record(range(count))
            if judge is None:
                sheet.write(batch.part, grown)
            else:
                kept += grown[-1]
                scores += batch.scores
            advance(len(batch.part))
            begin = time.perf_counter()
    if judge is not None:
        chosen = draws.chosen(scores)
        sheet.record(chosen)
        sheet.write(range(count), [[kept[i] for i in chosen]])
    sheet.finish(options.grow)
    rate = f"{drawn} image{'s' * (drawn > 1)} in {seconds:.1f} s, {drawn / seconds:.3g} images/s"
    print(f"{rate}; see {output.directory}")
    return 0


def choose_wanted(
    pipe: "Pipeline", given: Sequence[str | int] | None, count: int | None, seed: int
) -> "Tensor":
    """What every image shall show, as the model takes it, (n,).

    Image i takes entry i of an endless turn, so it does not depend on the count. Without labels
    the turn goes through all classes, in an order drawn by the seed where they are many.

    Raises:
        UsageError: at a label that the model does not know, or at fewer images than labels.
    """
    if given is None:
        turn = pipe.model.condition.all()
        if len(turn) > MANY_CLASSES:
            numbers = list(range(len(turn)))
            random.Random(seed).shuffle(numbers)
            turn = turn[numbers]
            count = count or A_FEW
    else:
        turn = read_wanted(pipe, given)
        count = count or len(turn)
        if count < len(turn):
            raise UsageError(
                f"--count {count} leaves out some of the {len(turn)} labels; give at least "
                f"{len(turn)}, or fewer labels"
            )
        if more := count % len(turn):
            inform(
                f"--count {count} is no multiple of {len(turn)}: the first {more} labels get one "
                "image more than the others"
            )
    return turn[[i % len(turn) for i in range(count or len(turn))]]


class Sheet:
    """The pictures of a run, their grid and their record, written as they come.

    Args:
        output: where they go.
        wanted: what each image shows, (n,).
        made: how they are sampled, for the record.
    """

    def __init__(
        self,
        pipe: "Pipeline",
        options: Namespace,
        output: Output,
        wanted: "Tensor",
        made: dict[str, Any],
    ) -> None:
        self.pipe, self.options, self.output, self.made = pipe, options, output, made
        self.labels = wanted.tolist()
        self.said = pipe.say(wanted)
        self.names = [file_name(pipe, i, *said) for i, said in enumerate(self.said)]
        self.shown = min(len(wanted), GRID_SHOWN)
        self.grown: list[list[Image.Image]] = []  # of the grid, after every scale

    def write(self, part: range, grown: Sequence[Sequence["Image.Image"]]) -> None:
        """Writes pictures, which `record` lists.

        Args:
            part: numbers of the images.
            grown: the pictures after every scale that was watched.
        """
        for i, picture in zip(part, grown[-1], strict=True):
            self.output.picture(self.names[i], picture)
        self.grown = self.grown or [[] for _ in grown]
        for frame, more in zip(self.grown, grown, strict=True):
            frame += more[: max(0, self.shown - part.start)]

    def finish(self, grow: bool) -> None:
        """Writes the grid, and its growth over the scales, and says what they leave out."""
        rows = grid_rows(self.labels[: self.shown], self.options.grid_columns)
        write_grids(self.output, rows, self.grown[-1], self.grown if grow else [])
        if self.shown < len(self.labels):
            inform(f"the grid shows the first {self.shown} of {len(self.labels)} images")
        self.output.report_others()

    def record(self, numbers: Sequence[int]) -> None:
        """Writes what repeats the run, bit for bit on a machine of the same kind.

        It comes before the pictures, as the next run finds them by it.

        Args:
            numbers: of the images among all that are sampled.
        """
        from nextscale.checkpoints.checkpoint import identity

        options, made = self.options, self.made
        record = {
            **identity(self.pipe, options.model, made["transformer"]),
            "precision": made["precision"],
            "compiled": made["compiled"],
            "seed": options.seed,
            "batch": options.batch,
            "tile": options.tile,
            "sampling": made["sampling"],
            "keep": options.keep,
            "classifier": options.classifier,
            "images": [
                {"file": file, "label": label, "name": name, "seed": options.seed + number}
                for file, (label, name), number in zip(self.names, self.said, numbers, strict=True)
            ],
        }
        self.output.table("samples.json", record)


def grid_rows(labels: Sequence[int], columns: int | None) -> list[list[int]]:
    """Which image stands where, sorted by label.

    Without a number of columns, several images of a label begin a row of their own.
    """
    from nextscale.pictures.grids import square

    groups = [
        [i for i, other in enumerate(labels) if other == label] for label in sorted(set(labels))
    ]
    most = max(map(len, groups))
    if columns or most == 1 or len(groups) == 1:
        groups = [[i for group in groups for i in group]]
        columns = columns or square(len(labels))
    columns = columns or min(most, GRID_COLUMNS)
    return [group[j : j + columns] for group in groups for j in range(0, len(group), columns)]


def write_grids(
    output: Output,
    rows: list[list[int]],
    pictures: Sequence["Image.Image"],
    growth: Sequence[Sequence["Image.Image"]],
) -> None:
    """Writes `grid.png`, and `growing.gif` if pictures after every scale are given."""
    from nextscale.pictures.grids import grid

    output.picture("grid.png", grid([[pictures[i] for i in row] for row in rows]))
    if growth:
        frames = [grid([[frame[i] for i in row] for row in rows]) for frame in growth]
        output.animation("growing.gif", frames)


def file_name(pipe: "Pipeline", index: int, label: int | None, said: str) -> str:
    """`0003-Ankle-boot.png`; the number where classes have no names."""
    said = said or ("no-class" if "none" in pipe.config.labels else "none")
    name = re.sub(r"\W+", "-", said).strip("-")[:LABEL_SHOWN].rstrip("-")
    return f"{index:04d}-{name or label}.png"
