"""`nextscale app`: a page to draw, edit and look inside."""

import signal
from pathlib import Path
from tempfile import TemporaryDirectory

from jsonargparse import Namespace

from nextscale.cli.inference import (
    add_device_argument,
    add_model_arguments,
    check_between,
    load_model,
)
from nextscale.cli.options import Parser, tell
from nextscale.errors import UsageError

MOST_WAITING = 10**6  # jobs


def add_arguments(parser: Parser) -> None:
    """Adds this command's options."""
    add_model_arguments(parser)
    add = parser.add_argument
    add(
        "--host",
        type=str,
        default="127.0.0.1",
        help="address to listen on, which requests must name; 0.0.0.0 is any",
    )
    add("--port", type=int, default=7860, help="0 takes a free one")
    add("--queue", type=int, default=64, help="jobs that may wait; more are refused")
    add_device_argument(parser)


def run(options: Namespace) -> int:
    """Serves the page until it is interrupted."""
    check_between(1, MOST_WAITING, queue=options.queue)
    port = usable_port(options.host, options.port)
    with TemporaryDirectory(prefix="nextscale-app-") as folder:
        from nextscale.app.environment import own_environment

        ignored = own_environment(Path(folder))
        if ignored:
            tell(f"{', '.join(ignored)} are ignored; the page has options of its own")
        from nextscale.acceleration import share_memory
        from nextscale.app.page import build_page, serve
        from nextscale.app.studio import Studio

        share_memory()
        pipe = load_model(options.model, options.device)
        page = build_page(Studio(pipe, options.model, Path(folder)), options.queue)
        address = serve(page, options.host, port, prevent_thread_lock=True)
        tell(f"the page is at {address}; Ctrl-C stops it")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the folder goes then, too
        page.block_thread()
    return 0


def usable_port(host: str, port: int) -> int:
    """A port that can be listened on, a free one for 0. Raises UsageError if there is none."""
    import socket

    if not host:
        raise UsageError("--host is empty; give an address, such as 127.0.0.1")
    try:
        with socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, port))
            return found.getsockname()[1]
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{host} port {port} cannot be listened on ({reason}); give another --port or --host"
        ) from error
