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
    label_numbers,
    load_model,
    precision_of,
    take_seed,
    typed_label,
)
from nextscale.config.evaluation import MOST_IMAGES
from nextscale.console.messages import tell
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
    """Draws images and writes them."""
    from nextscale.generation.rejection import candidates, check_judged, choose, own_class
    from nextscale.pictures.pixels import to_pictures
    from nextscale.tokenizer.tiles import check_tile

    check_between(1, MOST_IMAGES, count=options.count, batch=options.batch)
    check_between(1, GRID_SHOWN, grid_columns=options.grid_columns)
    take_seed(options)
    check_tile(options.tile)
    given, output = given_sampling(options), Output(options.out, "samples.json")
    pipe = load_model(options.model, options.device, precision_of(options))
    labels = choose_labels(pipe, options.labels, options.count, options.seed)
    sampling = {**vars(pipe.config.sampling), **given}
    names = [file_name(pipe, i, label) for i, label in enumerate(labels)]
    judge = judge_of(options, pipe)
    if judge is not None:
        check_judged(labels, pipe.model.config.classes)
    if judge is not None and options.grow:
        raise UsageError("--grow shows images while they are drawn; leave it or --keep out")
    drawn = labels if judge is None else candidates(labels, options.keep)
    check_memory(RECORDED * len(labels), f"the record of {len(labels):,} images", "draw fewer")
    if judge is not None:
        pipe.check_pictures(len(drawn))
    seeds = [options.seed + i for i in range(len(drawn))]
    check_seeds(options.seed, len(seeds) - 1)
    made = accelerate(pipe, options, min(options.batch, len(drawn)), sampling)
    shown = min(len(labels), GRID_SHOWN)
    pictures: list[Image.Image] = []  # those shown in the grid; all, if some are to be chosen
    growth: list[list[Image.Image]] = [[] for _ in pipe.tokenizer.config.scales]
    scores: list[float] = []
    seconds = 0.0
    with progress("drawing", len(drawn)) as advance:
        for start in range(0, len(drawn), options.batch):  # fixed chunks of consecutive indices
            part = slice(start, min(start + options.batch, len(drawn)))
            begin = time.perf_counter()
            images = draw(pipe, drawn[part], seeds[part], sampling, options.grow, options.tile)
            grown = [to_pictures(image) for image in images]
            seconds += time.perf_counter() - begin
            if judge is None and start == 0:  # before pictures, which a next run then knows of
                known = record(pipe, options, made, sampling, labels, names, seeds)
                output.table("samples.json", known)
            if judge is None:
                for name, picture in zip(names[part], grown[-1], strict=True):
                    output.picture(name, picture)
            else:
                scores += own_class(judge(images[-1]), drawn[part])
            kept = max(0, shown - start) if judge is None else len(grown[-1])
            pictures += grown[-1][:kept]
            if options.grow:
                for frame, more in zip(growth, grown, strict=True):
                    frame += more[:kept]
            advance(len(grown[-1]))
    if judge is not None:
        chosen = choose(scores, drawn, labels)
        pictures, seeds = [pictures[i] for i in chosen], [seeds[i] for i in chosen]
        known = record(pipe, options, made, sampling, labels, names, seeds)
        output.table("samples.json", known)
        for name, picture in zip(names, pictures, strict=True):
            output.picture(name, picture)

    rows = grid_rows(labels[:shown], options.grid_columns)
    write_grids(output, rows, pictures, growth if options.grow else [])
    if shown < len(labels):
        tell(f"the grid shows the first {shown} of {len(labels)} images")
    output.tell_others()
    took = speed(pipe, sampling, options.grow, len(drawn), seconds, made["precision"])
    print(f"{took}; see {output.directory}")
    return 0


def choose_labels(
    pipe: "Pipeline", given: Sequence[str | int] | None, count: int | None, seed: int
) -> list[int]:
    """Number of the class of every image; the number of classes means none.

    Image i has the label i of an endless turn, so it does not depend on the count. Without labels
    the turn goes through all classes, in an order drawn by the seed where they are many.

    Raises:
        UsageError: at a label that the model does not know, or at fewer images than labels.
    """
    classes = pipe.model.config.classes
    if given is None:
        turn = list(range(classes)) if classes else [classes]
        if classes > MANY_CLASSES:
            random.Random(seed).shuffle(turn)
            count = count or A_FEW
    else:
        turn = label_numbers(pipe, given)
        count = count or len(turn)
        if count < len(turn):
            raise UsageError(
                f"--count {count} leaves out some of the {len(turn)} labels; give at least "
                f"{len(turn)}, or fewer labels"
            )
        if more := count % len(turn):
            told = f"the first {more} labels get one image more than the others"
            tell(f"--count {count} is no multiple of {len(turn)}: {told}")
    return [turn[i % len(turn)] for i in range(count or len(turn))]


def draw(
    pipe: "Pipeline",
    labels: Sequence[int],
    seeds: Sequence[int],
    sampling: dict[str, Any],
    grow: bool,
    tile: int,
) -> list["Tensor"]:
    """One chunk of images (B, channels, H, W) after every scale, or only after the last."""
    grown, state = [], None
    for state in pipe.states(labels, seeds=seeds, **sampling):
        if grow:
            grown.append(state.image(tile))
    assert state is not None
    return grown or [state.image(tile)]


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


def file_name(pipe: "Pipeline", index: int, label: int) -> str:
    """`0003-Ankle-boot.png`; the number where classes have no names."""
    said = pipe.label_name(label) or ("no-class" if "none" in pipe.config.labels else "none")
    name = re.sub(r"\W+", "-", said).strip("-")[:LABEL_SHOWN].rstrip("-")
    return f"{index:04d}-{name or label}.png"


def record(
    pipe: "Pipeline",
    options: Namespace,
    made: dict[str, Any],
    sampling: dict[str, Any],
    labels: Sequence[int],
    names: Sequence[str],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """All that repeats the draw, bit for bit on a machine of the same kind."""
    from nextscale.checkpoints.checkpoint import identity

    return {
        **identity(pipe, options.model, made["transformer"]),
        "precision": made["precision"],
        "compiled": made["compiled"],
        "seed": options.seed,
        "batch": options.batch,
        "tile": options.tile,
        "sampling": sampling,
        "keep": options.keep,
        "classifier": options.classifier,
        "images": [
            {
                "file": name,
                "label": None if label == pipe.model.config.classes else label,
                "name": pipe.label_name(label),
                "seed": seed,
            }
            for label, name, seed in zip(labels, names, seeds, strict=True)
        ],
    }


def speed(
    pipe: "Pipeline",
    sampling: dict[str, Any],
    grow: bool,
    images: int,
    seconds: float,
    precision: str,
) -> str:
    """Images/s and FLOP/s of drawing, in float32 beside what the device's matrix product reaches.

    The share is left out where the rate is above that peak: the device was busy with other work.
    """
    from nextscale.cost.flops import drawing_flops
    from nextscale.generation.sampling import strengths_of
    from nextscale.machine.peaks import PEAK_PRODUCTS, measure_peak

    guided = any(strengths_of(pipe.model, sampling["cfg"], sampling["guidance"]))
    decodes = len(pipe.tokenizer.config.scales) if grow else 1
    rate = images * drawing_flops(pipe.config, guided, decodes) / seconds
    told = (
        f"{images} image{'s' * (images > 1)} in {seconds:.1f} s, {images / seconds:.3g} images/s, "
        f"{rate / 1e9:.3g} GFLOP/s"
    )
    if precision != "float32":
        return told
    peak = measure_peak(pipe.device, products=PEAK_PRODUCTS[1:])  # takes a fifth of a second
    share = f", {rate / peak:.0%} of the fp32 matrix-product peak"
    return told + share * (rate <= peak)
