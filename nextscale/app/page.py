"""The page of a `Studio`: three tabs, and the same functions as a typed HTTP API.

One job runs at a time, the others wait in a queue that refuses what exceeds its limit.
"""

import gradio as gr

from nextscale.app.draw_tab import draw_tab
from nextscale.app.edit_tab import edit_tab
from nextscale.app.inside_tab import inside_tab
from nextscale.app.studio import KEPT, Studio

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
