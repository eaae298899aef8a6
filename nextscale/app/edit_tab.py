"""The tab that edits what is painted over."""

from collections.abc import Iterator
from threading import Event
from typing import Any

import gradio as gr
from PIL import Image

from nextscale.app.controls import (
    MODEL,
    PAINTED,
    last_sample,
    readable,
    results,
    sampling_controls,
    shown,
    slider,
    telling,
)
from nextscale.app.studio import MOST_CANDIDATES, TASKS, Studio, whole
from nextscale.errors import UsageError
from nextscale.pixels import checked

MOST_FEATHER = 32  # pixels of a seam


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
            label = gr.Dropdown(studio.classes(), value=studio.classes()[-1], label="Class")
            candidates = slider(1, MOST_CANDIDATES, 4, label="Candidates")
            seed = gr.Number(0, label="Seed")
            with gr.Accordion("More", open=False):
                recode = gr.Checkbox(False, label="Let kept codes mend what is drawn beside them")
                fill = gr.Checkbox(True, label="Hide what is painted over from the model")
                paste = gr.Checkbox(False, label="Put the other pixels back as they were")
                feather = slider(0, MOST_FEATHER, 0, label="Seam, pixels")
                rule = gr.Radio(["released", "strict"], value="released", label="Rule of keeping")
                keep_scales = slider(
                    0,
                    len(config.scales),
                    len(config.scales) // 2,
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
            gallery, told, file = results("Candidates", "edits", 4)

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
            if jobs.get(request.session_hash) is job:  # else another edit has begun since
                del jobs[request.session_hash]

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
