"""What the tabs share: controls of drawing, results, files that are looked at, complaints."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import gradio as gr
from PIL import Image

from nextscale.app.studio import Progress, Studio
from nextscale.errors import UsageError
from nextscale.pictures import enlarge
from nextscale.pixels import checked

MODEL = {"concurrency_id": "model", "concurrency_limit": 1}  # one job at a time
PAINTED = 336  # pixels that tiny pictures are enlarged to, at least, to be painted on


def sampling_controls(studio: Studio, cfg: float) -> list[gr.components.Component]:
    """Guidance, top-k, top-p and smooth, at the model's defaults but for guidance."""
    sampling, codes = studio.pipe.config.sampling, studio.pipe.tokenizer.config.codes
    return [
        slider(0, 10, cfg, step=0.1, label="Guidance"),
        slider(0, codes, sampling.top_k, label="Top-k", info="0 is off"),
        slider(0, 1, sampling.top_p, step=0.01, label="Top-p", info="0 is off"),
        gr.Checkbox(sampling.smooth, label="Smooth", info="average codes"),
    ]


def slider(least: float, most: float, value: float, step: float = 1, **options: Any) -> gr.Slider:
    """A slider; a value beyond it is told to who sent it, without a traceback in the server."""
    made = gr.Slider(least, most, value, step=step, **options)
    preprocess = made.preprocess

    def check(payload: float) -> float:
        try:
            return preprocess(payload)
        except gr.Error as error:
            error.print_exception = False
            raise

    made.preprocess = check
    return made


def results(
    kind: str, name: str, columns: int
) -> tuple[gr.Gallery, gr.Markdown, gr.DownloadButton]:
    """Where results appear: a gallery, a line about them, and a button that downloads them.

    Args:
        kind: what they are called.
        name: of the gallery in the page; the line's is `NAME-told`.
        columns: of the gallery.
    """
    return (
        gr.Gallery(
            label=kind,
            columns=columns,
            format="png",
            elem_id=name,
            interactive=False,
            object_fit="contain",
        ),
        gr.Markdown("Nothing yet.", elem_id=f"{name}-told"),
        gr.DownloadButton(f"Download {kind.lower()} and command"),
    )


def shown(progress: Progress) -> tuple:
    """Gallery, line and download button after a step."""
    return (
        [enlarge(picture) for picture in progress.pictures],
        progress.told,
        progress.file or None,
    )


def readable(component: gr.components.Component) -> None:
    """Lets a component complain of files that are no single, whole picture of a fair size."""
    preprocess = component.preprocess

    def check(payload: Any) -> Any:
        files = [payload]
        if hasattr(payload, "background"):
            files = [payload.background, *payload.layers]
        try:
            for file in files:
                if file is not None:
                    with Image.open(file.path) as picture:
                        checked(picture)
        except UsageError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except (OSError, Image.DecompressionBombError) as error:
            raise gr.Error(f"the image cannot be read ({error})", print_exception=False) from error
        return preprocess(payload)

    component.preprocess = check


def last_sample(images: list[tuple[str, Any]] | None, chosen: int) -> Image.Image:
    """The drawn image that was clicked last, or the first, large enough to be painted on."""
    if not images:
        raise UsageError("nothing is drawn yet; draw first, or upload an image")
    with Image.open(images[min(chosen, len(images) - 1)][0]) as picture:
        whole = checked(picture)
    factor = -(-PAINTED // max(whole.size))
    size = whole.width * factor, whole.height * factor
    return whole.resize(size, Image.Resampling.NEAREST)


def telling(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose complaints appear on the page; its server goes on."""

    @wraps(function)
    def steps(*values: Any) -> Iterator[Any]:
        try:
            yield from function(*values)
        except UsageError as error:
            raise gr.Error(str(error), print_exception=False) from error

    @wraps(function)
    def once(*values: Any) -> Any:
        try:
            return function(*values)
        except UsageError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return steps if inspect.isgeneratorfunction(function) else once
