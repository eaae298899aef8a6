"""`nextscale app`: a page to draw, edit and look inside."""

import signal
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from jsonargparse import Namespace

from nextscale.cli.inference import add_model_arguments, check_between, load_model
from nextscale.console.messages import inform
from nextscale.console.options import Parser, add_device_argument
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
        help="address to listen on, which requests must name; 0.0.0.0 and :: accept any name",
    )
    add("--port", type=int, default=7860, help="0 takes a free one")
    add("--queue", type=int, default=64, help="jobs that may wait; more are refused")
    add_device_argument(parser)


def run(options: Namespace) -> int:
    """Serves the page until it is interrupted."""
    check_between(1, MOST_WAITING, queue=options.queue)
    host = options.host.removeprefix("[").removesuffix("]")  # as addresses hold IPv6 ones
    port = usable_port(host, options.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which deletes the folder, too
    with TemporaryDirectory(prefix="nextscale-app-") as folder:
        from nextscale.app.environment import own_environment

        ignored = own_environment(Path(folder), host)
        if ignored:
            inform(f"{', '.join(ignored)} are ignored; the page has options of its own")
        from nextscale.app.page import build_page, serve, stop
        from nextscale.app.store import Store
        from nextscale.app.studio import Studio
        from nextscale.machine.heap import share_memory

        share_memory()
        pipe = load_model(options.model, options.device)
        with closing(Studio(pipe, options.model, Store(Path(folder)))) as studio:
            page = build_page(studio, options.queue)
            address = serve(page, studio.store, host, port)
            inform(f"the page is at {address}; Ctrl-C stops it")
            with suppress(KeyboardInterrupt):
                Event().wait()
        stop(page)
    inform("the page has stopped")
    return 0


def usable_port(host: str, port: int) -> int:
    """Returns a port that can be listened on, a free one for 0.

    Args:
        host: name or address, all of whose addresses are tried.
        port: 0 to 65535.

    Raises:
        UsageError: if the port is taken or the host is none of this machine's.
    """
    import socket

    if not host:
        raise UsageError("--host is empty; give an address, such as 127.0.0.1")
    try:
        for family, kind, _, _, place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as found:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                found.bind((place[0], port, *place[2:]))
                port = found.getsockname()[1]
        return port
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{host} port {port} cannot be listened on ({reason}); give another --port or --host"
        ) from error
