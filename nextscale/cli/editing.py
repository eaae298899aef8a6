"""What the edit commands share: pictures and masks from files, and what is written of edits."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from nextscale.cli.inference import (
    SAID_NONE,
    accelerate,
    add_acceleration_arguments,
    add_model_arguments,
    add_running_arguments,
    add_sampling_arguments,
    add_seed_argument,
    check_between,
    check_seeds,
    given_sampling,
    load_model,
    precision_of,
    read_wanted,
    take_seed,
    typed_label,
)
from nextscale.cli.reconstruct import find_images, report_changes, unique_names
from nextscale.config.evaluation import MOST_IMAGES
from nextscale.console.messages import inform
from nextscale.console.options import Parser
from nextscale.console.output import Output
from nextscale.console.progress import progress
from nextscale.errors import UsageError
from nextscale.models.labels import ALWAYS_NONE

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from nextscale.editing.marks import Mask
    from nextscale.pipeline import Pipeline

SHEET_SHOWN = 100  # images of the sheet
CELLS_SHOWN = 1000  # pictures of the sheet, which is held in memory

# Edits some of the pictures, as `Pipeline.edit` gives them, by options of drawing.
Edit = Callable[["Pipeline", slice, dict[str, Any]], list["Image.Image"]]
# What the sheet shows of each image before its edits; raises UsageError where masks do not fit.
Show = Callable[["Pipeline"], list[list["Image.Image"]]]


def add_editing_arguments(parser: Parser) -> None:
    """Adds which pictures are edited, and how they are drawn."""
    add_model_arguments(parser)
    add = parser.add_argument
    add("images", type=str, nargs="+", help="files, or folders of them")
    label = f"of all images or one each: the class's name, or its number {SAID_NONE}"
    add("--label", type=typed_label, nargs="+", default=[ALWAYS_NONE], help=label + " [none]")
    add_seed_argument(parser, "image i is drawn with seed + i, its candidates beyond")
    add("--candidates", type=int, default=1, help="edits of each image, written likeliest first")
    add_sampling_arguments(parser)
    add_acceleration_arguments(parser)
    add_running_arguments(parser)


@dataclass(frozen=True)
class Given:
    """Pictures from files.

    Attributes:
        paths: of the files.
        names: of what is written of each.
        pictures: as they are, transparency included.
    """

    paths: list["Path"]
    names: list[str]
    pictures: list["Image.Image"]


def read_given(options: Namespace) -> Given:
    """The pictures that are edited. Raises UsageError if a file is none, or an option wrong."""
    from nextscale.editing.candidates import CANDIDATE_STEP, MOST

    check_between(1, MOST_IMAGES, batch=options.batch)
    check_between(1, MOST, candidates=options.candidates)
    paths = find_images(options.images)
    take_seed(options)
    check_seeds(options.seed, len(paths) - 1 + (options.candidates - 1) * CANDIDATE_STEP)
    return Given(paths, unique_names(paths), read_pictures(paths))


def read_pictures(paths: Sequence["Path"]) -> list["Image.Image"]:
    """Pictures as they are, transparency included. Raises UsageError at an unreadable one."""
    from nextscale.pictures.pixels import checked
    from nextscale.pictures.reading import open_picture, unreadable

    pictures = []
    for path in paths:
        try:
            with open_picture(path) as picture:
                pictures.append(checked(picture, str(path)))
        except (UsageError, MemoryError):
            raise
        except Exception as error:  # Pillow's readers raise nearly anything at broken bytes
            raise unreadable(path, error) from error
    return pictures


def masks_of(options: Namespace, count: int) -> "list[Mask | None]":
    """The mask of each image. Raises UsageError if masks and images do not fit."""
    if options.mask and options.box:
        raise UsageError("both --mask and --box are given; give one of them")
    if options.box:
        left, top, right, bottom = options.box
        return [(left, top, right, bottom)] * count
    if not options.mask:
        return [None] * count
    masks = read_pictures(find_images([options.mask]))
    if len(masks) not in (1, count):
        raise UsageError(f"{len(masks)} masks are given for {count} images; give one, or one each")
    return [*masks] if len(masks) == count else [masks[0]] * count


def edit_pictures(
    options: Namespace, name: str, given: Given, edit: Edit, show: Show, told: dict[str, Any]
) -> int:
    """Edits pictures and writes each edit, a sheet, and what repeats them.

    Args:
        options: of `add_editing_arguments`.
        name: of the edit.
        given: the pictures.
        edit: some of them.
        show: them before.
        told: options of the edit, for the record.
    """
    from nextscale.checkpoints.checkpoint import identity
    from nextscale.editing.editor import edit_sampling
    from nextscale.pictures.grids import grid

    sampling, output = given_sampling(options), Output(options.out, "edits.json", given.paths)
    pipe = load_model(options.model, options.device, precision_of(options))
    labels = labels_for(pipe, options.label, len(given.pictures))
    if name == "class" and None in labels:
        raise UsageError("--label is missing; give the class that is drawn")
    rows = show(pipe)
    before = len(rows[0])
    report_changes(Counter(c for p in given.pictures for c in pipe.changes(p)), len(given.pictures))
    made = accelerate(pipe, options, min(options.batch, len(rows)), edit_sampling(pipe, sampling))
    record = {
        "edit": name,
        **identity(pipe, options.model, made["transformer"]),
        "precision": made["precision"],
        "compiled": made["compiled"],
        "seed": options.seed,
        "batch": options.batch,
        "options": told,
        "sampling": vars(edit_sampling(pipe, sampling)),
        "labels": labels,
    }
    files = [
        [f"{stem}-{name}-{candidate + 1}.png" for candidate in range(options.candidates)]
        for stem in given.names
    ]
    planned = [
        {"file": file, "image": str(path)}
        for path, of_image in zip(given.paths, files, strict=True)
        for file in of_image
    ]
    entries, cells = [], CELLS_SHOWN // min(len(rows), SHEET_SHOWN)
    with progress("editing", len(rows) * options.candidates) as advance:
        for begin in range(0, len(rows), options.batch):
            part = slice(begin, min(begin + options.batch, len(rows)))
            drawing = {
                "label": labels[part],
                "seeds": [options.seed + i for i in range(part.start, part.stop)],
                "candidates": options.candidates,
            }
            edits = edit(pipe, part, {**drawing, **sampling})
            if begin == 0:  # before pictures, which a next run then knows of
                output.table("edits.json", {**record, "images": planned})
            for number, picture in enumerate(edits):
                image, candidate = divmod(number, options.candidates)
                image += begin
                output.picture(files[image][candidate], picture)
                entries.append({**planned[len(entries)], **picture.info})
                if image < SHEET_SHOWN and len(rows[image]) < cells:
                    rows[image].append(picture)
            advance(len(edits))
    output.picture("sheet.png", grid(rows[:SHEET_SHOWN]))
    shown = sum(map(len, rows[:SHEET_SHOWN])) - before * min(len(rows), SHEET_SHOWN)
    if shown < len(entries):
        inform(f"the sheet shows {shown} of {len(entries)} edits")
    output.table("edits.json", {**record, "images": entries})
    output.report_others()
    images = f"{len(rows)} image{'s' * (len(rows) > 1)}"
    print(f"{len(entries)} edit{'s' * (len(entries) > 1)} of {images}; see {output.directory}")
    return 0


def labels_for(pipe: "Pipeline", given: Sequence[str | int], count: int) -> list[int | None]:
    """The label of each image; None is without. Raises UsageError if they do not fit."""
    read = read_wanted(pipe, given)
    if len(read) not in (1, count):
        raise UsageError(f"{len(read)} labels are given for {count} images")
    return [number for number, _ in pipe.say(read.expand(count))]


def fitted(pipe: "Pipeline", picture: "Image.Image") -> "Image.Image":
    """A picture at the model's size and in its channels."""
    from nextscale.pictures.pixels import to_pictures

    return to_pictures(pipe.to_images([picture]))[0]


def white(pipe: "Pipeline", picture: "Image.Image", mask: "Mask | None") -> "Image.Image":
    """A mask at the model's size, white where it redraws, in the picture's mode."""
    from nextscale.editing.editor import kept
    from nextscale.editing.seams import at_size
    from nextscale.pictures.pixels import to_pictures

    images = pipe.to_images([picture])
    redrawn = 1 - at_size(kept(pipe, [mask], [picture]), images)
    return to_pictures((2 * redrawn - 1).expand_as(images))[0]


def on_canvas(pipe: "Pipeline", picture: "Image.Image", sides: Any, box: Any) -> "Image.Image":
    """A picture where it lies in the canvas, around it grey."""
    import torch.nn.functional as F

    from nextscale.editing.editor import place
    from nextscale.pictures.pixels import to_pictures

    images, (left, top, right, bottom) = place(pipe, [picture], sides, box)
    return to_pictures(F.pad(images, (left, right, top, bottom)))[0]
