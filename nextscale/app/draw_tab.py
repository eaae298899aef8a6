"""The tab that draws, showing images after every scale."""

from collections.abc import Iterator

import gradio as gr

from nextscale.app.controls import MODEL, results, sampling_controls, shown, slider, telling
from nextscale.app.studio import MOST_IMAGES, Studio


def draw_tab(studio: Studio, chosen: gr.State) -> gr.Gallery:
    """The controls that draw; gives the gallery of what was drawn."""
    classes, sampling = studio.classes(), studio.pipe.config.sampling
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            labels = gr.Dropdown(
                classes,
                value=classes[: min(10, len(classes) - 1)] or classes,
                multiselect=True,
                label="Classes",
                info="in turn",
            )
            count = slider(1, MOST_IMAGES, min(10, MOST_IMAGES), label="Images")
            seed = gr.Number(0, label="Seed", info="image i is drawn with seed + i")
            controls = sampling_controls(studio, sampling.cfg)
            with gr.Row():
                go = gr.Button("Draw", variant="primary", elem_id="draw")
                stop = gr.Button("Stop", variant="stop", elem_id="stop-draw")
        with gr.Column(scale=2, min_width=280):
            gallery, told, file = results("Images", "drawn", 5)

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
