"""What the page does: draws, edits and looks inside with one model, checking what it is given.

It knows nothing of Gradio. Long work comes in steps, between which it can be stopped.
"""

import shlex
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import IO, Any, Literal

import torch
from PIL import Image

from nextscale.app.codes import code_colours, code_use, token_tiles
from nextscale.app.store import Store
from nextscale.checkpoints.checkpoint import identity
from nextscale.config.seeds import LARGEST_SEED
from nextscale.editing.candidates import CANDIDATE_STEP
from nextscale.editing.marks import Mask
from nextscale.errors import UsageError
from nextscale.pictures.pixels import checked, to_pictures
from nextscale.pipeline import Pipeline
from nextscale.storage.files import to_json

Task = Literal["inpaint", "class", "outpaint", "vary"]
TASKS: tuple[Task, ...] = ("inpaint", "class", "outpaint", "vary")
MOST_IMAGES = 32
MOST_CANDIDATES = 16


@dataclass(frozen=True)
class Progress:
    """The state of a job after one of its steps.

    Attributes:
        pictures: drawn so far, of the model's size.
        summary: a line about them.
        file: path of the archive with pictures and command; empty before the end.
    """

    pictures: list[Image.Image]
    summary: str
    file: str = ""


class Studio:
    """One model, and the files of what it draws.

    Args:
        pipe: the model.
        name: it was loaded by.
        store: keeps archives for download.
    """

    def __init__(self, pipe: Pipeline, name: str, store: Store) -> None:
        self.pipe = pipe
        self.identity = identity(pipe, name)
        self.store = store
        self.working = Lock()
        self.colours = code_colours(pipe.tokenizer.quantizer.code.vectors().detach())

    @contextmanager
    def step(self) -> Iterator[None]:
        """Surrounds work with the model. Raises UsageError if the studio is closed."""
        with self.working:
            if self.store.closed:
                raise UsageError("the page is stopping")
            yield

    def steps(self, job: Iterator[Progress]) -> Iterator[Progress]:
        """Yields a job's progress; between two steps the studio can be closed."""
        while True:
            with self.step():
                progress = next(job, None)
            if progress is None:
                return
            yield progress

    def close(self) -> None:
        """Waits for the step that runs, which would crash in torch when the interpreter ends."""
        with self.working:
            self.store.close()

    def classes(self) -> list[str]:
        """Returns the names of the classes, or their numbers, and last that of no class."""
        condition = self.pipe.model.condition
        everything = condition.all()
        said = [*self.pipe.say(everything), *self.pipe.say(condition.drop(everything[:1]))]
        return list(dict.fromkeys(name for _, name in said))

    def draw(
        self, labels: Sequence[str], count: int, seed: int, sampling: dict[str, Any]
    ) -> Iterator[Progress]:
        """Draws images of the labels in turn; yields all of them after every scale."""
        count = whole("count", count, 1, MOST_IMAGES)
        seed = whole("seed", seed, 0, LARGEST_SEED - count)
        if not labels:
            raise UsageError(f"no class is chosen; choose one, or {self.classes()[-1]!r}")
        left_out, labels = labels[count:], labels[:count]
        turn = [self.label(labels[i % len(labels)]) for i in range(count)]
        scales = self.pipe.tokenizer.config.scales
        pictures: list[Image.Image] = []
        for k, state in enumerate(self.pipe.states(turn, seed=seed, **sampling)):
            pictures = to_pictures(state.image())
            yield Progress(pictures, f"scale {k + 1} of {len(scales)}")
        words = ["sample", "--labels", *labels, "--count", count, "--seed", seed]
        files = {f"{i:04d}.png": picture for i, picture in enumerate(pictures)}
        archive = self.pack(files, [*words, *options_of(sampling)])
        summary = f"{count} drawn, seeds from {seed}"
        if left_out:
            summary += f"; more classes than images, so not drawn: {', '.join(left_out)}"
        yield Progress(pictures, summary, archive)

    def edit(
        self,
        task: Task,
        image: Image.Image,
        mask: Mask | None,
        label: str,
        candidates: int,
        seed: int,
        options: dict[str, Any],
        sampling: dict[str, Any],
        watch: Callable[[], None] | None = None,
    ) -> Iterator[Progress]:
        """Draws candidates one after the other; yields all so far, the likeliest first.

        Args:
            task: `inpaint` and `class` need a mask.
            image: of any size.
            mask: white is redrawn.
            label: of `classes`.
            candidates: edits to choose from.
            seed: candidate i is drawn with seed + i · `CANDIDATE_STEP`.
            options: of `Pipeline.edit`, `outpaint` or `vary`.
            sampling: fields of `SamplingConfig`.
            watch: called after every scale; what it raises ends the work.
        """
        candidates = whole("candidates", candidates, 1, MOST_CANDIDATES)
        seed = whole("seed", seed, 0, LARGEST_SEED - candidates * CANDIDATE_STEP)
        image, wanted = checked(image), self.label(label)
        if task == "class" and wanted is None:
            raise UsageError("choose the class that is drawn")
        if task in ("inpaint", "class") and mask is None:
            raise UsageError("nothing is marked; paint over what is to be redrawn")
        found: list[Image.Image] = []
        for i in range(candidates):
            given = {
                "label": wanted,
                "seed": seed + i * CANDIDATE_STEP,
                **options,
                **sampling,
                "watch": watch,
            }
            if task == "outpaint":
                found += self.pipe.outpaint(image, **given)
            elif task == "vary":
                found += self.pipe.vary(image, **given)
            else:
                found += self.pipe.edit(image, mask, **given)
            found.sort(key=lambda picture: -picture.info["log_probability"])
            yield Progress(list(found), f"{i + 1} of {candidates} drawn")
        words = ["edit", task, "image.png", "--label", label, "--seed", seed]
        words += ["--candidates", candidates, *options_of(options), *options_of(sampling)]
        files = {"image.png": image}
        if isinstance(mask, Image.Image) and task in ("inpaint", "class"):
            files["mask.png"] = mask
            words += ["--mask", "mask.png"]
        files |= {f"edit-{i + 1}.png": picture for i, picture in enumerate(found)}
        best = found[0].info["log_probability"]
        summary = (
            f"{candidates} drawn, likeliest first; the best has a log-probability of {best:.1f}"
        )
        summary += "".join(f"; the image was {change}" for change in self.pipe.changes(image))
        yield Progress(found, summary, self.pack(files, words))

    def example(self) -> tuple[Image.Image, Image.Image]:
        """Returns an image that the model draws, always the same, and a mask of its middle."""
        picture = self.pipe.sample([self.label(self.classes()[0])], seed=0)[0]
        mask = Image.new("L", picture.size, 0)
        width, height = picture.size
        mask.paste(255, (width // 4, height // 4, width - width // 4, height - height // 4))
        return picture, mask

    @torch.inference_mode()
    def look_inside(
        self, image: Image.Image
    ) -> tuple[list[Image.Image], list[Image.Image], list[tuple[str, int, int, float]]]:
        """Returns token maps as tiles, the image after each scale, and the use of codes."""
        image, quantizer = checked(image), self.pipe.tokenizer.quantizer
        tokens = self.pipe.tokenizer.encode(self.pipe.to_images([image]))
        tiles = [token_tiles(each[0], self.colours) for each in tokens]
        use = code_use([each[0] for each in tokens], quantizer.code.size)
        return tiles, self.pipe.pyramid(image), use

    def label(self, name: str) -> int | None:
        """Returns a label as the pipeline takes it; None is no class.

        Raises:
            UsageError: if it is not known.
        """
        ((number, _),) = self.pipe.say(self.pipe.read([name]))
        return number

    def pack(self, files: dict[str, Image.Image], words: Sequence[object]) -> str:
        """Writes pictures, and the command that repeats them, into an archive; returns its path."""
        command, *rest = [str(word) for word in words]
        parts = [command, rest.pop(0)] if command == "edit" else [command]
        line = shlex.join(["nextscale", *parts, str(self.identity["model"]), *rest])
        record = {"command": line, **self.identity}

        def save(file: IO[bytes]) -> None:
            with zipfile.ZipFile(file, "w") as archive:
                for name, picture in files.items():
                    with archive.open(name, "w") as entry:
                        picture.save(entry, format="PNG")
                archive.writestr("repeat.json", to_json(record))

        return self.store.write(".zip", save)


def options_of(values: dict[str, Any]) -> list[str]:
    """Returns options as the command line takes them."""
    words: list[str] = []
    for name, value in values.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [option] if value else [f"--no-{option[2:]}"] * (name in ("fill", "smooth"))
        elif isinstance(value, list | tuple):
            words += [option, *map(str, value)]
        else:
            words += [option, str(value)]
    return words


def whole(name: str, value: Any, least: int, most: int) -> int:
    """Returns an integer, which may be given as a float. Raises UsageError if out of range."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    if not fits or value != int(value):
        raise UsageError(f"{name} is {value}; it must be a whole number from {least} to {most}")
    return int(value)
