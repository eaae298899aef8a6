"""A hub, or what stands between it and here, that answers nonsense: one line each, nothing kept."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

import nextscale
from nextscale.errors import UsageError
from tests.storage.test_hub import use_endpoint

COMMIT = "0" * 40
FOUND = json.dumps({"id": "me/shoes", "sha": COMMIT, "siblings": []}).encode()
CONFIG = b'{"tokenizer": {}}'
LISTED = json.dumps(
    [{"type": "file", "path": "config.json", "size": len(CONFIG), "oid": "1" * 40}]
).encode()
LOGIN = b"<html><title>Sign in to this network</title></html>"
NO_JSON = [LOGIN, b"", b"\xff\xfe", b"{", b"[" * 10**5]
WRONG_TYPES = [b"5", b"null", b'"text"', b"[5]", b'{"sha": 5}', b'{"siblings": 5}']
FIELDS = {"sha": [None, 5, []], "siblings": [5, "text", [5], [{}]], "id": [None, 5]}


class Strange(BaseHTTPRequestHandler):
    """Answers by what a question is about: `model`, `tree` or `file`."""

    bodies: ClassVar[dict[str, bytes]] = {}
    missing: ClassVar[dict[str, int]] = {}  # bytes that are promised and do not come
    status: ClassVar[int] = 200

    def log_message(self, format: str, *args: object) -> None:
        """Stays silent."""

    def do_GET(self) -> None:
        kind = "tree" if "/tree/" in self.path else "model" if "/api/" in self.path else "file"
        body = self.bodies[kind]
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) + self.missing.get(kind, 0)))
        self.send_header("ETag", f'"{"1" * 40}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    do_HEAD = do_GET
    do_POST = do_GET


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Strange]]:
    """A hub on this machine whose answers a test chooses; without a choice they are right."""
    monkeypatch.setattr(Strange, "bodies", {"model": FOUND, "tree": LISTED, "file": CONFIG})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Strange)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
    yield Strange
    server.shutdown()
    server.server_close()
    thread.join()


def refusal() -> str:
    """The one line that loading from this hub ends in."""
    begin = time.perf_counter()
    with pytest.raises(UsageError) as caught:
        nextscale.load("me/shoes")
    assert time.perf_counter() - begin < 10
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("body", [*NO_JSON, *WRONG_TYPES])
@pytest.mark.parametrize("kind", ["model", "tree"])
def test_an_answer_that_is_not_the_hubs(kind: str, body: bytes, strange: type[Strange]) -> None:
    strange.bodies[kind] = body
    assert "me/shoes is not understood" in refusal()


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in FIELDS.items() for v in vs])
def test_a_field_of_another_type(
    field: str, value: object, strange: type[Strange], tmp_path: Path
) -> None:
    strange.bodies["model"] = json.dumps({**json.loads(FOUND), field: value}).encode()
    assert "is incomplete" in refusal() if field == "id" else "is not understood" in refusal()
    assert {entry.name for entry in tmp_path.iterdir()} <= {"cache"}


@pytest.mark.parametrize("kind", ["model", "tree", "file"])
def test_an_answer_that_breaks_off(
    kind: str, strange: type[Strange], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(strange, "missing", {kind: 7})
    monkeypatch.setattr(time, "sleep", lambda _: None)  # before the client asks again
    assert "cannot be reached (peer closed connection" in refusal()
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_another_status(
    status: int, strange: type[Strange], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strange, "status", status)
    assert "cannot be reached" in (line := refusal())
    assert str(status) in line


def test_a_config_that_is_a_login_page(strange: type[Strange]) -> None:
    listed = json.loads(LISTED)
    strange.bodies["file"], listed[0]["size"] = LOGIN, len(LOGIN)
    strange.bodies["tree"] = json.dumps(listed).encode()
    assert "config.json is truncated or not valid JSON" in refusal()
