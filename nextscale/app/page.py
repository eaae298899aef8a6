"""The page of a `Studio`: three tabs, and the same functions as a typed HTTP API.

One job runs at a time, the others wait in a queue that refuses what exceeds its limit.
"""

import logging
from typing import cast

import gradio as gr
from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware

from nextscale.app.arguments import Page
from nextscale.app.calls import Calls, refuse
from nextscale.app.draw_tab import draw_tab
from nextscale.app.edit_tab import edit_tab
from nextscale.app.guard import Guard, hosts_of
from nextscale.app.inside_tab import inside_tab
from nextscale.app.store import Store
from nextscale.app.studio import Studio
from nextscale.app.upload import upload_route
from nextscale.errors import UsageError

KEPT = 3600  # seconds that a file is kept
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


def serve(page: Page, store: Store, host: str, port: int) -> str:
    """Starts the server in a thread and returns its address.

    Every option that Gradio would read from its environment or guess is given here.

    Args:
        page: to be served.
        store: keeps what is uploaded.
        host: name or address to listen on.
        port: to listen on, which is free.
    """
    try:
        _, address, _ = page.launch(
            share=False,
            inline=False,
            inbrowser=False,
            debug=False,
            auth=None,
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            root_path="",
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
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
                "middleware": [Middleware(Guard, hosts=hosts_of(host))],
                "routes": [upload_route(page, store)],
                "dependencies": [Depends(Calls(page))],
                "exception_handlers": {RequestValidationError: refuse},
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
            css=CSS,
            head=HEAD,
        )
    except OSError as error:
        raise UsageError(f"{host} port {port} cannot be listened on ({error})") from error
    return address


def stop(page: Page) -> None:
    """Stops the server of a page, whose studio is closed."""
    logging.getLogger("uvicorn.error").disabled = True  # which reports each open connection
    page.server.force_exit = True  # connections that stay open are not waited for
    page.close(verbose=False)
