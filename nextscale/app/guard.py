"""ASGI middleware: which hosts, origins and paths reach the page, and with how large a body.

A web site that a visitor has open can send requests to 127.0.0.1, and by DNS rebinding read the
answers; its `Host` or `Origin` header gives it away.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from nextscale.errors import shown

API = "/gradio_api"
LARGEST_CALL = 2**18  # bytes of a call's arguments; pictures are uploaded before
LARGEST_UPLOAD = 20 * 2**20  # bytes
READ = "|".join(
    (
        r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json",
        r"/(static|assets)/[\w./-]{1,200}",
        rf"{API}/(info|openapi\.json|app_id|login_check|startup-events|theme\.css)/?",
        rf"{API}/queue/(data|status)",
        rf"{API}/heartbeat/[\w-]{{1,64}}",
        rf"{API}/call/(v2/)?\w{{1,64}}/\w{{1,64}}",
        rf"{API}/file=/?[^/:\x00-\x1f]{{1,255}}(/[^/\x00-\x1f]{{1,255}}){{0,30}}",
    )
)
CALLED = rf"{API}/(queue/join|cancel|reset|run/predict|call/(v2/)?\w{{1,64}})/?"
LIMITS = {  # the requests of the page: the largest body in bytes
    rf"(GET|HEAD) ({READ})": 0,
    rf"POST {CALLED}": LARGEST_CALL,
    rf"POST {API}/upload": LARGEST_UPLOAD,
}
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
FORWARDING = (b"forwarded", b"x-forwarded-", b"x-gradio-", b"x-direct-url")  # how headers begin


class Guard:
    """Answers requests that no visitor of the page sends with one line.

    Args:
        app: what is guarded.
        hosts: names that requests may give; None for any.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.answer_for(scope)(self.unforwarded(scope), receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def answer_for(self, scope: Scope) -> ASGIApp:
        """Returns the guarded app with a limit for bodies, or a line that says what is wrong."""
        try:
            self.check_sender(Headers(scope=scope))
            largest = largest_body(scope["method"], scope["path"])
        except HTTPException as error:
            return PlainTextResponse(f"{error.detail}\n", error.status_code)
        return RequestBodyLimitMiddleware(self.app, largest)

    def check_sender(self, headers: Headers) -> None:
        """Raises HTTPException if a request names another host or comes from another site."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and name_of(host) not in self.hosts:
            raise HTTPException(
                403,
                f"host {shown(host)} is refused; this page answers as "
                f"{', '.join(sorted(self.hosts))} (`--host` changes that)",
            )
        if origin is not None and place_of(origin) != host.lower():
            raise HTTPException(403, f"origin {shown(origin)} is refused; open the page itself")

    def unforwarded(self, scope: Scope) -> Scope:
        """The request without proxies' headers, unless the page answers by any name.

        Gradio writes the host that they name into what other visitors receive.
        """
        if self.hosts is None:
            return scope
        kept = [pair for pair in scope["headers"] if not pair[0].lower().startswith(FORWARDING)]
        return {**scope, "headers": kept}


def largest_body(method: str, path: str) -> int:
    """Bytes that the body of a request may have.

    Raises:
        HTTPException: if the page has no such path.
    """
    for pattern, largest in LIMITS.items():
        if re.fullmatch(pattern, f"{method} {path}"):
            return largest
    raise HTTPException(404, f"the page has no {method} {shown(path)}")


def hosts_of(host: str) -> frozenset[str] | None:
    """The names by which a page on a host may be addressed; None for any.

    Args:
        host: the name or address that the page listens on; 0.0.0.0 and :: stand for all.
    """
    name = host.lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return LOOPBACK if name == "localhost" else frozenset((name,))
    if address.is_unspecified:
        return None
    return LOOPBACK | {name} if address.is_loopback else frozenset((name,))


def name_of(host: str) -> str:
    """The name in a `Host` header, without port, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def place_of(origin: str) -> str | None:
    """Host and port of an `Origin` header; None if it names none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
