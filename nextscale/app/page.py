"""The page of a `Studio`: three tabs, and the same functions as a typed HTTP API.

One job runs at a time, the others wait in a queue that refuses what exceeds its limit.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from threading import Event
from typing import Any

import gradio as gr
from PIL import Image

from nextscale.app.studio import (
    MOST_CANDIDATES,
    MOST_IMAGES,
    NONE,
    TASKS,
    Progress,
    Studio,
    whole,
)
from nextscale.errors import UsageError
from nextscale.pictures import enlarge
from nextscale.pixels import checked

MODEL = {"concurrency_id": "model", "concurrency_limit": 1}  # one job at a time
PAINTED = 336  # pixels that tiny pictures are enlarged to, at least, to be painted on
KEPT = 3600  # seconds that files are kept for download
MOST_FEATHER = 32  # pixels of a seam
LARGEST_FILE = "20mb"  # of what is uploaded
CSS = """
.gradio-container { max-width: min(1100px, 100vw) !important; margin: auto; }
.gradio-container > .main { max-width: 100% !important; }
.grid-wrap img { image-rendering: pixelated; }
@media (max-width: 600px) { .grid-container { grid-template-columns: repeat(3, 1fr) !important; } }
"""
HEAD = '<meta name="viewport" content="width=device-width, initial-scale=1">'


def build_page(studio: Studio, queue: int) -> gr.Blocks:
    """The page, ready to be launched.

    Args:
        studio: does the work.
        queue: jobs that may wait; more are refused.
    """
    config = studio.pipe.tokenizer.config
    with gr.Blocks(
        title="nextscale", analytics_enabled=False, delete_cache=(KEPT // 6, KEPT)
    ) as page:
        gr.Markdown(
            f"# nextscale\n`{studio.identity['model']}`: images of {config.image_size[1]}x"
            f"{config.image_size[0]} pixels in {len(config.scales)} steps, on "
            f"{studio.identity['device']}. One job runs at a time; up to {queue} wait."
        )
        chosen = gr.State(0)  # of the drawn images, the one that was clicked last
        with gr.Tab("Draw"):
            drawn = draw_tab(studio, chosen)
        with gr.Tab("Edit"):
            edit_tab(studio, drawn, chosen)
        with gr.Tab("Look inside"):
            inside_tab(studio, drawn, chosen)
    page.queue(max_size=queue, default_concurrency_limit=1)
    return page


def draw_tab(studio: Studio, chosen: gr.State) -> gr.Gallery:
    """The controls that draw; gives the gallery of what was drawn."""
    classes, sampling = studio.classes(), studio.pipe.config.sampling
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            labels = gr.Dropdown(
                classes,
                value=classes[: min(10, len(classes) - 1)] or [NONE],
                multiselect=True,
                label="Classes",
                info="in turn",
            )
            count = gr.Slider(1, MOST_IMAGES, min(10, MOST_IMAGES), step=1, label="Images")
            seed = gr.Number(0, precision=0, label="Seed", info="image i is drawn with seed + i")
            controls = sampling_controls(studio, sampling.cfg)
            with gr.Row():
                go = gr.Button("Draw", variant="primary", elem_id="draw")
                stop = gr.Button("Stop", variant="stop", elem_id="stop-draw")
        with gr.Column(scale=2, min_width=280):
            gallery = gr.Gallery(
                label="Images",
                columns=5,
                format="png",
                elem_id="drawn",
                interactive=False,
                object_fit="contain",
            )
            told = gr.Markdown("Nothing is drawn yet.", elem_id="drawn-told")
            file = gr.DownloadButton("Download images and command")

    def draw(
        labels: list[str], count: int, seed: int, cfg: float, top_k: int, top_p: float, smooth: bool
    ) -> Iterator[tuple]:
        """Draws images of classes, scale by scale."""
        given = {"cfg": cfg, "top_k": top_k, "top_p": top_p, "smooth": smooth}
        for progress in studio.draw(labels, count, seed, given):
            yield shown(progress)

    event = go.click(
        telling(draw),
        [labels, count, seed, *controls],
        [gallery, told, file],
        api_name="draw",
        **MODEL,
    )
    stop.click(None, cancels=[event], api_visibility="private")

    def choose(selected: gr.SelectData) -> int:
        return selected.index

    gallery.select(choose, None, chosen, queue=False, api_visibility="private")
    return gallery


def edit_tab(studio: Studio, drawn: gr.Gallery, chosen: gr.State) -> None:
    """The controls that edit."""
    jobs: dict[str | None, Event] = {}  # the last edit of every visitor
    config = studio.pipe.tokenizer.config
    with gr.Row():
        with gr.Column(scale=1, min_width=380):
            editor = gr.ImageEditor(
                label="Image; paint what is to be redrawn",
                type="pil",
                format="png",
                sources=["upload", "clipboard"],
                transforms=[],
                brush=gr.Brush(default_size=36, colors=["#ff00aa"], color_mode="fixed"),
                layers=False,
                canvas_size=(PAINTED, PAINTED),
                elem_id="editor",
            )
            readable(editor)
            take = gr.Button("Take the last sample", elem_id="take")
            task = gr.Radio(
                [
                    ("Fill what is painted", "inpaint"),
                    ("Make it another class", "class"),
                    ("Continue beyond the sides", "outpaint"),
                    ("Vary", "vary"),
                ],
                value="inpaint",
                label="Task",
            )
            label = gr.Dropdown(studio.classes(), value=NONE, label="Class")
            candidates = gr.Slider(1, MOST_CANDIDATES, 4, step=1, label="Candidates")
            seed = gr.Number(0, precision=0, label="Seed")
            with gr.Accordion("More", open=False):
                recode = gr.Checkbox(False, label="Let kept codes mend what is drawn beside them")
                fill = gr.Checkbox(True, label="Hide what is painted over from the model")
                paste = gr.Checkbox(False, label="Put the other pixels back as they were")
                feather = gr.Slider(0, MOST_FEATHER, 0, step=1, label="Seam, pixels")
                rule = gr.Radio(["released", "strict"], value="released", label="Rule of keeping")
                keep_scales = gr.Slider(
                    0,
                    len(config.scales),
                    len(config.scales) // 2,
                    step=1,
                    label="Vary: scales to keep",
                )
                side = max(config.image_size) // 2
                sides = gr.Textbox(
                    f"{side} {side} {side} {side}",
                    label="Continue: pixels left, top, right and bottom",
                )
                controls = sampling_controls(studio, 0.0)
            with gr.Row():
                go = gr.Button("Edit", variant="primary", elem_id="edit")
                stop = gr.Button("Stop", variant="stop", elem_id="stop-edit")
        with gr.Column(scale=1, min_width=280):
            gallery = gr.Gallery(
                label="Candidates",
                columns=4,
                format="png",
                elem_id="edits",
                interactive=False,
                object_fit="contain",
            )
            told = gr.Markdown("Nothing is edited yet.", elem_id="edits-told")
            file = gr.DownloadButton("Download edits and command")

    def edit(
        image: dict[str, Any],
        task: str,
        label: str,
        candidates: int,
        seed: int,
        recode: bool,
        fill: bool,
        paste: bool,
        feather: int,
        rule: str,
        keep_scales: int,
        sides: str,
        cfg: float,
        top_k: int,
        top_p: float,
        smooth: bool,
        request: gr.Request,
    ) -> Iterator[tuple]:
        """Edits an image: `background`, and as `layers` what is marked by any opaque colour."""
        if task not in TASKS:
            raise UsageError(f"task is {task!r}; it can be {', '.join(TASKS)}")
        picture, mask = painted(image, config.image_size)
        keeping = {
            "rule": rule,
            "recode": recode,
            "feather": whole("feather", feather, 0, MOST_FEATHER),
        }
        options = {
            "inpaint": {"fill": fill, "paste": paste, **keeping},
            "class": {"fill": fill, "paste": paste, **keeping},
            "outpaint": {"sides": numbers(sides), **keeping},
            "vary": {"keep_scales": whole("keep_scales", keep_scales, 0, len(config.scales))},
        }[task]
        sampling = {"cfg": cfg, "top_k": top_k, "top_p": top_p, "smooth": smooth}
        job = jobs[request.session_hash] = Event()

        def watch() -> None:
            if job.is_set():
                raise UsageError("stopped")

        given = (task, picture, mask, label, candidates, seed, options, sampling, watch)
        try:
            for progress in studio.edit(*given):  # pyright: ignore[reportArgumentType]
                yield shown(progress)
        finally:
            jobs.pop(request.session_hash, None)

    def halt(request: gr.Request) -> None:
        """Ends this visitor's edit at its next scale."""
        job = jobs.get(request.session_hash)
        if job is not None:
            job.set()

    given = [editor, task, label, candidates, seed, recode, fill, paste, feather, rule]
    event = go.click(
        telling(edit),
        [*given, keep_scales, sides, *controls],
        [gallery, told, file],
        api_name="edit",
        **MODEL,
    )
    stop.click(halt, cancels=[event], queue=False, api_visibility="private")
    take.click(telling(last_sample), [drawn, chosen], editor, queue=False, api_visibility="private")


def inside_tab(studio: Studio, drawn: gr.Gallery, chosen: gr.State) -> None:
    """The controls that show an image's tokens."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            image = gr.Image(
                type="pil",
                format="png",
                sources=["upload", "clipboard"],
                label="Image",
                elem_id="inside-image",
            )
            readable(image)
            take = gr.Button("Take the last sample", elem_id="take-inside")
            go = gr.Button("Look inside", variant="primary", elem_id="look")
        with gr.Column(scale=2, min_width=280):
            tiles = gr.Gallery(
                label="Token maps", columns=5, height="auto", format="png", elem_id="tiles"
            )
            growth = gr.Gallery(
                label="After each scale", columns=5, height="auto", format="png", interactive=False
            )
            use = gr.Dataframe(
                headers=["scale", "tokens", "different codes", "share of the codebook"],
                label="Use of codes",
            )

    def look_inside(image: Image.Image) -> tuple:
        """Token maps as coloured tiles, the image after each scale, and the use of codes."""
        if image is None:
            raise UsageError("there is no image; upload one or take the last sample")
        maps, pictures, rows = studio.look_inside(image)
        table = [[scale, total, used, f"{share:.2%}"] for scale, total, used, share in rows]
        return maps, [enlarge(picture) for picture in pictures], table

    go.click(telling(look_inside), image, [tiles, growth, use], api_name="look_inside", **MODEL)
    take.click(telling(last_sample), [drawn, chosen], image, queue=False, api_visibility="private")


def sampling_controls(studio: Studio, cfg: float) -> list[gr.components.Component]:
    """Guidance, top-k, top-p and smooth, at the model's defaults but for guidance."""
    sampling, codes = studio.pipe.config.sampling, studio.pipe.tokenizer.config.codes
    return [
        gr.Slider(0, 10, cfg, step=0.1, label="Guidance"),
        gr.Slider(0, codes, sampling.top_k, step=1, label="Top-k", info="0 is off"),
        gr.Slider(0, 1, sampling.top_p, step=0.01, label="Top-p", info="0 is off"),
        gr.Checkbox(sampling.smooth, label="Smooth", info="average codes"),
    ]


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


def painted(
    value: dict[str, Any] | None, size: tuple[int, int]
) -> tuple[Image.Image, Image.Image | None]:
    """The picture in an editor and what is painted over it, white; None if nothing is.

    A picture enlarged by whole pixels for painting is taken back to the model's size (H, W).
    """
    if not value or value.get("background") is None:
        raise UsageError("there is no image; upload one or take the last sample")
    picture = checked(value["background"]).convert("RGB")
    mask = Image.new("L", picture.size, 0)
    for layer in value.get("layers") or []:
        alpha = checked(layer, "the mask").convert("RGBA").getchannel("A")
        if alpha.size != picture.size:
            raise UsageError(
                f"the mask has {alpha.width}x{alpha.height} pixels and the image "
                f"{picture.width}x{picture.height}; both must have one size"
            )
        mask.paste(255, mask=alpha)
    factor = picture.width // size[1]
    if factor > 1 and picture.size == (size[1] * factor, size[0] * factor):
        picture, mask = picture.reduce(factor), mask.reduce(factor)
    return picture, mask if mask.getbbox() else None


def numbers(text: str) -> list[int]:
    """Whole numbers separated by spaces."""
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f"{text!r} are no whole numbers; give for instance 8 8 8 8") from None


def telling(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose complaints appear on the page; its server goes on."""
    import inspect

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


def serve(page: gr.Blocks, host: str, port: int, prevent_thread_lock: bool = False) -> str:
    """Starts the server and gives its address; returns at Ctrl-C unless told to return at once."""
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=prevent_thread_lock,
        quiet=True,
        show_error=True,
        max_file_size=LARGEST_FILE,
        footer_links=["api"],
        ssr_mode=False,
        css=CSS,
        head=HEAD,
    )
    return address
