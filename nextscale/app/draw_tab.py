"""The tab that draws, showing images after every scale."""

from collections.abc import Iterator

import gradio as gr

from nextscale.app.controls import MODEL, buttons, reporting, results, sampling_controls, shown
from nextscale.app.studio import MOST_IMAGES, Studio


def draw_tab(studio: Studio, chosen: gr.State) -> gr.Gallery:
    """The controls that draw; gives the gallery of what was drawn."""
    classes, defaults = studio.classes(), studio.pipe.config.sampling
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            labels = gr.Dropdown(
                classes,
                value=classes[: min(10, len(classes) - 1)] or classes,
                multiselect=True,
                label="Classes",
                info="in turn",
            )
            count = gr.Slider(1, MOST_IMAGES, min(10, MOST_IMAGES), step=1, label="Images")
            with gr.Accordion("More", open=False):
                seed = gr.Number(0, label="Seed", info="image i is drawn with seed + i")
                controls = sampling_controls(studio, defaults.cfg, defaults.mean_scales)
            go, stop = buttons("Draw", "draw")
        with gr.Column(scale=2, min_width=280):
            gallery, summary, file = results("Images", "drawn", 5)

    def draw(
        labels: list[str],
        count: int,
        seed: int,
        cfg: float,
        top_k: int,
        top_p: float,
        smooth: bool,
        mean_scales: int,
    ) -> Iterator[tuple]:
        """Draws images of classes, scale by scale."""
        given = {"cfg": cfg, "top_k": top_k, "top_p": top_p, "smooth": smooth}
        sampling = {**given, "mean_scales": mean_scales}
        for progress in studio.steps(studio.draw(labels, count, seed, sampling)):
            yield shown(progress, studio.store)

    event = go.click(
        reporting(draw),
        [labels, count, seed, *controls],
        [gallery, summary, file],
        api_name="draw",
        **MODEL,
    )
    stop.click(None, cancels=[event], api_visibility="private")

    def choose(event: gr.EventData) -> int:
        index = event._data.get("index") if isinstance(event._data, dict) else 0
        return min(max(0, index), MOST_IMAGES) if isinstance(index, int) else 0

    gallery.select(choose, None, chosen, queue=False, api_visibility="private")
    return gallery
