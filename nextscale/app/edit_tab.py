"""The tab that edits what is painted over."""

from collections.abc import Iterator
from threading import Event
from typing import Any

import gradio as gr
from PIL import Image

from nextscale.app.controls import (
    MODEL,
    PAINTED,
    buttons,
    last_sample,
    paintable,
    reporting,
    results,
    sampling_controls,
    shown,
)
from nextscale.app.store import Store
from nextscale.app.studio import MOST_CANDIDATES, Studio
from nextscale.errors import UsageError
from nextscale.pictures.pixels import checked

MOST_FEATHER = 32  # pixels of a seam
PAINT = "#ff00aa"


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
                brush=gr.Brush(default_size=36, colors=[PAINT], color_mode="fixed"),
                layers=False,
                canvas_size=(PAINTED, PAINTED),
                elem_id="editor",
            )
            with gr.Row():
                take = gr.Button("Take the last sample", elem_id="take", min_width=100)
                example = gr.Button("Take an example", elem_id="example", min_width=100)
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
            label = gr.Dropdown(studio.classes(), value=studio.classes()[-1], label="Class")
            with gr.Accordion("More", open=False):
                candidates = gr.Slider(1, MOST_CANDIDATES, 4, step=1, label="Candidates")
                seed = gr.Number(0, label="Seed")
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
                controls = sampling_controls(studio, 0.0, 0)
            go, stop = buttons("Edit", "edit")
        with gr.Column(scale=1, min_width=280):
            gallery, summary, file = results("Candidates", "edits", 4)

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
        mean_scales: int,
        request: gr.Request,
    ) -> Iterator[tuple]:
        """Edits an image: `background`, and as `layers` what is marked by any opaque colour."""
        picture, mask = painted(image, config.image_size)
        keeping = {"rule": rule, "recode": recode, "feather": feather}
        options = {
            "inpaint": {"fill": fill, "paste": paste, **keeping},
            "class": {"fill": fill, "paste": paste, **keeping},
            "outpaint": {"sides": numbers(sides), **keeping},
            "vary": {"keep_scales": keep_scales},
        }[task]
        sampling = {"cfg": cfg, "top_k": top_k, "top_p": top_p, "smooth": smooth}
        sampling["mean_scales"] = mean_scales
        job = jobs[request.session_hash] = Event()

        def watch() -> None:
            if job.is_set():
                raise UsageError("stopped")

        given = (task, picture, mask, label, candidates, seed, options, sampling, watch)
        try:
            for progress in studio.steps(studio.edit(*given)):  # pyright: ignore[reportArgumentType]
                yield shown(progress, studio.store)
        finally:
            if jobs.get(request.session_hash) is job:  # else another edit has begun since
                del jobs[request.session_hash]

    def halt(request: gr.Request) -> None:
        """Ends this visitor's edit at its next scale."""
        job = jobs.get(request.session_hash)
        if job is not None:
            job.set()

    given = [editor, task, label, candidates, seed, recode, fill, paste, feather, rule]
    event = go.click(
        reporting(edit),
        [*given, keep_scales, sides, *controls],
        [gallery, summary, file],
        api_name="edit",
        **MODEL,
    )
    stop.click(halt, cancels=[event], queue=False, api_visibility="private")

    def put(images: list[tuple[str, Any]] | None, chosen: int) -> dict[str, Any]:
        """The last sample, with nothing painted over it."""
        return on_canvas(last_sample(images, chosen), None, studio.store)

    def begin() -> tuple[dict[str, Any], str]:
        """An image of the model's own with a hole, and the task of filling it."""
        with studio.step():
            picture, mask = studio.example()
        return on_canvas(paintable(picture), paintable(mask), studio.store), "inpaint"

    take.click(reporting(put), [drawn, chosen], editor, queue=False, api_visibility="private")
    example.click(reporting(begin), None, [editor, task], api_visibility="private", **MODEL)


def on_canvas(picture: Image.Image, mask: Image.Image | None, store: Store) -> dict[str, Any]:
    """Returns an editor's value: a picture whose mask's white part is painted over."""
    pictures = [picture.convert("RGBA")]
    if mask is not None:
        paint = Image.new("RGBA", picture.size, PAINT)
        layer = Image.composite(paint, Image.new("RGBA", picture.size, 0), mask)
        pictures += [Image.alpha_composite(pictures[0], layer), layer]
    background, *others = store.pictures(pictures)
    composite = others[0] if others else background
    return {"background": background, "layers": others[1:], "composite": composite}


def painted(
    value: dict[str, Any] | None, size: tuple[int, int]
) -> tuple[Image.Image, Image.Image | None]:
    """Returns the picture in an editor and a mask, white where painted; None if nothing is.

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
    """Returns whole numbers separated by spaces or commas."""
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(
            f"sides is {text!r}; it must be whole numbers, for instance 8 8 8 8"
        ) from None
