"""Uploads: forms without files, large ones, and connections that break."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio")
import httpx

from tests.app.server import API

BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}
BEGIN = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.PNG", ".png"), ("a.html", ""), ("../../a.svg", ""), ("\x00", "")]
)
def test_files_get_names_of_the_page(server, name, suffix) -> None:
    paths = {server.upload(b"<script>", name)["path"] for _ in range(2)}
    assert len(paths) == 2
    assert {Path(path).suffix for path in paths} == {suffix}
    assert {Path(path).read_bytes() for path in paths} == {b"<script>"}
    folders = {Path(path).parent for path in paths}
    assert {folder.name[:14] for folder in folders} == {"nextscale-app-"}


@pytest.mark.parametrize("path", ["upload?upload_id=a", "call/draw"])
def test_a_connection_that_breaks_leaves_nothing(server, path) -> None:
    folder = Path(server.upload(b"x")["path"]).parent
    before = sorted(folder.rglob("*"))
    kind = BOUNDARY["Content-Type"] if "upload" in path else "application/json"
    with socket.create_connection(("127.0.0.1", httpx.URL(server.address).port)) as connection:
        head = f"POST {API}/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        connection.sendall(head.encode() + b"Content-Length: 100000\r\n\r\n" + BEGIN)
    server.upload(b"x")  # meanwhile the broken one ends
    assert len(sorted(folder.rglob("*"))) == len(before) + 1


def test_forms_that_hold_no_files(server) -> None:
    text = b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--b--\r\n'
    broken = b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"
    for body in (text, broken, b"--b", b""):
        for path in ("upload", "upload?upload_id=a"):
            answer = server.post(f"{API}/{path}", content=body, headers=BOUNDARY)
            assert answer.status_code == 400, answer.text
    many = [("files", (f"{i}.png", b"x")) for i in range(40)]
    assert server.post(f"{API}/upload", files=many).status_code == 400
    large = {"files": ("x", b"x" * (21 * 2**20))}
    assert server.post(f"{API}/upload", files=large).status_code == 413

    def parts() -> Iterator[bytes]:
        yield BEGIN
        for _ in range(22):
            yield b"x" * 2**20

    try:
        answer = server.post(f"{API}/upload", content=parts(), headers=BOUNDARY)
        assert answer.status_code in (400, 413)
    except httpx.WriteError:  # it is answered before everything is sent
        pass
