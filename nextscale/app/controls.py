"""The controls that tabs share, and how their handlers show results and complaints."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import gradio as gr
from PIL import Image

from nextscale.app.store import Store
from nextscale.app.studio import Progress, Studio
from nextscale.errors import UsageError
from nextscale.pictures.grids import enlarge
from nextscale.pictures.pixels import checked

MODEL = {"concurrency_id": "model", "concurrency_limit": 1}  # one job at a time
PAINTED = 336  # pixels that tiny pictures are enlarged to, at least, to be painted on


def sampling_controls(
    studio: Studio, cfg: float, mean_scales: int
) -> list[gr.components.Component]:
    """Adds guidance, top-k, top-p, smooth and mean scales; three default to the model's."""
    sampling, tokenizer = studio.pipe.config.sampling, studio.pipe.tokenizer.config
    return [
        gr.Slider(0, 10, cfg, step=0.1, label="Guidance"),
        gr.Slider(0, tokenizer.codes, sampling.top_k, step=1, label="Top-k", info="0 is off"),
        gr.Slider(0, 1, sampling.top_p, step=0.01, label="Top-p", info="0 is off"),
        gr.Checkbox(sampling.smooth, label="Smooth", info="average codes"),
        gr.Slider(
            0,
            len(tokenizer.scales),
            mean_scales,
            step=1,
            label="Mean scales",
            info="finest scales that use expected codes instead of sampled ones",
        ),
    ]


def buttons(verb: str, name: str) -> tuple[gr.Button, gr.Button]:
    """Adds the buttons that start and stop a job, side by side also on a phone."""
    with gr.Row():
        go = gr.Button(verb, variant="primary", elem_id=name, min_width=100)
        stop = gr.Button("Stop", variant="stop", elem_id=f"stop-{name}", min_width=100)
    return go, stop


def results(
    kind: str, name: str, columns: int
) -> tuple[gr.Gallery, gr.Markdown, gr.DownloadButton]:
    """Adds a gallery of results, a line about them, and a button that downloads them.

    Args:
        kind: what they are called.
        name: of the gallery in the page; the line's is `NAME-summary`.
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
        gr.Markdown("Nothing yet.", elem_id=f"{name}-summary", label="summary"),
        gr.DownloadButton(f"Download {kind.lower()} and command", elem_id=f"{name}-archive"),
    )


def shown(progress: Progress, store: Store) -> tuple:
    """Returns what gallery, line and download button show after a step."""
    pictures = store.pictures([enlarge(picture) for picture in progress.pictures])
    return pictures, progress.summary, progress.file or None


def last_sample(images: list[tuple[str, Any]] | None, chosen: int) -> Image.Image:
    """Returns the drawn image that was clicked last, or the first, enlarged for painting."""
    if not images:
        raise UsageError("nothing is drawn yet; draw first, upload an image or take an example")
    with Image.open(images[min(chosen, len(images) - 1)][0]) as picture:
        return paintable(checked(picture))


def paintable(picture: Image.Image) -> Image.Image:
    """Returns a tiny picture enlarged by whole pixels, so that it can be painted on."""
    factor = -(-PAINTED // max(picture.size))
    size = picture.width * factor, picture.height * factor
    return picture.resize(size, Image.Resampling.NEAREST)


def reporting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a handler so that the page shows its UsageError and the server prints nothing."""

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
