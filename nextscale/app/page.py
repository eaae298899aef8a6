"""The page of a `Studio`: three tabs, and the same functions as a typed HTTP API.

One job runs at a time, the others wait in a queue that refuses what exceeds its limit.
"""

from typing import cast

import gradio as gr
from starlette.middleware import Middleware

from nextscale.app.arguments import Page
from nextscale.app.calls import GETS, LARGEST_UPLOAD, POSTS, UPLOAD, Calls
from nextscale.app.draw_tab import draw_tab
from nextscale.app.edit_tab import edit_tab
from nextscale.app.guard import Guard, hosts_of
from nextscale.app.inside_tab import inside_tab
from nextscale.app.studio import KEPT, Studio

SESSIONS = 200  # of visitors that are remembered; the oldest are forgotten
THREADS = 8  # that checks, files and the one job share
CSS = """
.gradio-container { max-width: min(1100px, 100vw) !important; margin: auto; }
.gradio-container > .main { max-width: 100% !important; }
.grid-wrap img { image-rendering: pixelated; }
@media (max-width: 600px) {
  .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
}
"""
HEAD = '<meta name="viewport" content="width=device-width, initial-scale=1">'


def build_page(studio: Studio, queue: int) -> Page:
    """The page, ready to be launched.

    Args:
        studio: does the work.
        queue: jobs that may wait; more are refused.
    """
    config = studio.pipe.tokenizer.config
    with Page(title="nextscale", analytics_enabled=False, delete_cache=(KEPT // 6, KEPT)) as page:
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
    page.queue(max_size=queue, default_concurrency_limit=1, api_open=False)
    return cast(Page, page)


def serve(page: Page, host: str, port: int, prevent_thread_lock: bool = False) -> str:
    """Starts the server and gives its address; returns at Ctrl-C unless told to return at once.

    Whatever Gradio would take from its environment or guess is given here.
    """
    guard = Middleware(
        Guard,
        hosts=hosts_of(host),
        gets=GETS,
        posts=POSTS,
        uploads=UPLOAD,
        rewrite=Calls(page),
    )
    _, address, _ = page.launch(
        share=False,
        inline=False,
        inbrowser=False,
        debug=False,
        auth=None,
        server_name=host,
        server_port=port,
        root_path="",
        prevent_thread_lock=prevent_thread_lock,
        quiet=True,
        show_error=True,
        max_file_size=LARGEST_UPLOAD,
        max_threads=THREADS,
        state_session_capacity=SESSIONS,
        footer_links=["api"],
        run_history=False,
        enable_monitoring=False,
        strict_cors=True,
        ssr_mode=False,
        num_workers=0,
        pwa=False,
        mcp_server=False,
        app_kwargs={
            "middleware": [guard],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
        css=CSS,
        head=HEAD,
    )
    return address
