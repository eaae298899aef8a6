"""Which HTTP requests reach the page: hosts, origins, paths and sizes are checked first.

A web site that a visitor has open can send requests to 127.0.0.1, and by DNS rebinding read the
answers; a `Host` other than the page's own gives it away.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextscale.errors import UsageError

LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
FORWARDING = (b"forwarded", b"x-forwarded-", b"x-gradio-", b"x-direct-url")  # how headers begin
SHOWN = 80  # characters of what was sent that an answer repeats

Rewrite = Callable[[str, str, str, bytes], tuple[str, bytes]]


class Refused(Exception):
    """Why a request is not answered."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Guard:
    """ASGI middleware that answers what no visitor of the page sends by one line.

    Args:
        app: what is guarded.
        hosts: that requests may name; None for any.
        gets: patterns of paths that can be read.
        posts: the largest body in bytes of each pattern of paths that can be posted to.
        uploads: pattern of the paths whose bodies pass as they come, uninspected.
        rewrite: takes method, path, query and body; gives path and body. Raises UsageError at what
            is malformed and LookupError at what does not exist.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str] | None,
        gets: str,
        posts: Mapping[str, int],
        uploads: str,
        rewrite: Rewrite,
    ) -> None:
        self.app = app
        self.hosts = hosts
        self.gets = gets
        self.posts = posts
        self.uploads = uploads
        self.rewrite = rewrite

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        try:
            self.check_sender(Headers(scope=scope))
            scope, receive = await self.checked(self.own(scope), receive)
        except Refused as refused:
            answer = PlainTextResponse(f"{refused}\n", refused.status)
            return await answer(scope, receive, send)
        try:
            await self.app(scope, receive, send)
        except TypeError:
            if not re.fullmatch(self.uploads, scope["path"]):
                raise
            answer = PlainTextResponse("what is uploaded is no form of files\n", 400)
            await answer(scope, receive, send)

    def check_sender(self, headers: Headers) -> None:
        """Raises Refused at a host that the page does not listen as, or a page of another host."""
        given, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and name_of(given) not in self.hosts:
            raise Refused(
                403,
                f"host {given[:SHOWN]!r} is refused; this page answers as "
                f"{', '.join(sorted(self.hosts))} (`--host` changes that)",
            )
        if origin is not None and urlsplit_or_none(origin) != given.lower():
            raise Refused(403, f"requests of {origin[:SHOWN]!r} are refused; open the page itself")

    def own(self, scope: Scope) -> Scope:
        """The request without headers that say where it really went, unless any host is one's own.

        Gradio writes them into what other visitors are given.
        """
        if self.hosts is None:
            return scope
        kept = [
            (name, value)
            for name, value in scope["headers"]
            if not name.lower().startswith(FORWARDING)
        ]
        return {**scope, "headers": kept}

    async def checked(self, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """The request as the page may take it. Raises Refused."""
        method, path = scope["method"], scope["path"]
        query = scope["query_string"].decode("latin-1")
        if method in ("GET", "HEAD") and re.fullmatch(self.gets, path):
            self.rewritten(method, path, query, b"")
            return scope, receive
        limits = [most for pattern, most in self.posts.items() if re.fullmatch(pattern, path)]
        if method != "POST" or not limits:
            raise Refused(404, f"{method} {path[:SHOWN]!r} is nothing of this page")
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > limits[0]:
            raise too_large(limits[0])
        if re.fullmatch(self.uploads, path):
            return scope, limited(receive, limits[0])
        body = await whole_body(receive, limits[0])
        path, body = self.rewritten(method, path, query, body)
        headers = [pair for pair in scope["headers"] if pair[0] not in (b"content-length",)]
        headers.append((b"content-length", str(len(body)).encode()))
        scope = {**scope, "path": path, "raw_path": path.encode(), "headers": headers}
        return scope, replay(body, receive)

    def rewritten(self, method: str, path: str, query: str, body: bytes) -> tuple[str, bytes]:
        """Path and body as the page may take them. Raises Refused."""
        try:
            return self.rewrite(method, path, query, body)
        except UsageError as error:
            raise Refused(400, str(error)) from error
        except LookupError as error:
            raise Refused(404, str(error.args[0])) from error


def hosts_of(host: str) -> frozenset[str] | None:
    """Names by which a page that listens on a host is asked for; None for any.

    Args:
        host: 0.0.0.0 or :: listens on every address, and answers by every name.
    """
    name = host.strip("[]").lower()
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


def urlsplit_or_none(origin: str) -> str | None:
    """Host and port of an `Origin` header; None if there is none in it."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def too_large(most: int) -> Refused:
    """What is raised at a body of more than `most` bytes."""
    return Refused(413, f"the request is too large; at most {most} bytes are taken")


async def whole_body(receive: Receive, most: int) -> bytes:
    """All bytes of a request. Raises Refused if they are more than `most`."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "the request ends before it is whole")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise too_large(most)
    return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Gives a body that has been read, then what the connection says."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def limited(receive: Receive, most: int) -> Receive:
    """Gives a body as it comes, and raises what form parsers expect when it exceeds `most`."""
    taken = 0

    async def next_message() -> Message:
        nonlocal taken
        message: dict[str, Any] = dict(await receive())
        taken += len(message.get("body", b""))
        if taken > most:
            raise MultiPartException(f"maximum allowed size of {most} bytes exceeded")
        return message

    return next_message
