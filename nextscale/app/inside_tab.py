"""The tab that looks inside: token maps, the image after each scale, the use of codes."""

from typing import Any

import gradio as gr
from PIL import Image

from nextscale.app.controls import MODEL, last_sample, paintable, reporting
from nextscale.app.studio import Studio
from nextscale.errors import UsageError
from nextscale.pictures.grids import enlarge


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
            with gr.Row():
                take = gr.Button("Take the last sample", elem_id="take-inside", min_width=100)
                example = gr.Button("Take an example", elem_id="example-inside", min_width=100)
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
        with studio.step():
            maps, pictures, rows = studio.look_inside(image)
        table = [[scale, total, used, f"{share:.2%}"] for scale, total, used, share in rows]
        after = [enlarge(picture) for picture in pictures]
        return studio.store.pictures(maps), studio.store.pictures(after), table

    go.click(reporting(look_inside), image, [tiles, growth, use], api_name="look_inside", **MODEL)

    def put(images: list[tuple[str, Any]] | None, chosen: int) -> str:
        """The last sample."""
        return studio.store.pictures([last_sample(images, chosen)])[0]

    def begin() -> str:
        """An image of the model's own."""
        with studio.step():
            picture, _ = studio.example()
        return studio.store.pictures([paintable(picture)])[0]

    take.click(reporting(put), [drawn, chosen], image, queue=False, api_visibility="private")
    example.click(reporting(begin), None, image, api_visibility="private", **MODEL)
