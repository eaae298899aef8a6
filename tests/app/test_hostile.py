"""The page under attack: a served process, and what attackers or wrong clients send by HTTP.

Nothing of it may end in a traceback of the server, take much memory or reach beyond the page.
"""

import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("gradio")
import httpx
import psutil

API = "/gradio_api"
VARIABLES = {
    "GRADIO_SHARE": "True",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_SERVER_PORT": "1",
    "GRADIO_ALLOWED_PATHS": "/",
    "GRADIO_ROOT_PATH": "/elsewhere",
    "GRADIO_MCP_SERVER": "True",
    "GRADIO_SSR_MODE": "True",
    "GRADIO_ANALYTICS_ENABLED": "True",
    "GRADIO_VIBE_MODE": "1",
    "GRADIO_WATCH_DIRS": "/",
    "GRADIO_TEMP_DIR": "/",
    "GRADIO_DEBUG": "1",
    "HTTP_PROXY": "http://127.0.0.1:9",
}
GREY = 3 * 2**20  # bytes of memory that a refused request may cost, on average
WRONG = [
    None,
    True,
    -1,
    1.5,
    1e30,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "x" * 5000,
    "\ud800\x00\x1b[2J",
    [],
    ["bag"] * 1000,
    [[[[]]]],
    {},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"path": "http://127.0.0.1:9/x.png", "meta": {"_type": "gradio.FileData"}},
    {"background": {"path": "\x00"}, "layers": [1, None], "composite": 5},
]
FINE = [("cfg", 1.5), ("sides", "")]  # the latter is not read where nothing is continued


@dataclass
class Server:
    """A page's process: its address, what it printed, and its memory."""

    address: str
    output: Path
    process: psutil.Process
    client: httpx.Client

    def post(self, path: str, **given) -> httpx.Response:
        if "content" in given:
            given["headers"] = {"Content-Type": "application/json", **given.get("headers", {})}
        return self.client.post(path, **given)

    def get(self, path: str, **given) -> httpx.Response:
        return self.client.get(path, **given)

    def call(self, name: str, data: list) -> tuple[str, object]:
        """The last event of a call and its data."""
        body = json.dumps({"data": data}).encode()
        answer = self.post(f"{API}/call/{name}", content=body)
        assert answer.status_code == 200, answer.text
        event = answer.json()["event_id"]
        text = self.get(f"{API}/call/{name}/{event}").text
        kind, value = re.findall(r"event: (\w+)\ndata: (.*)\n", text)[-1]
        return kind, json.loads(value)

    def upload(self, content: bytes, name: str = "image.png") -> dict:
        """What was uploaded, as an argument."""
        answer = self.post(f"{API}/upload", files={"files": (name, content)})
        assert answer.status_code == 200, answer.text
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def server(saved, tmp_path_factory) -> Iterator[Server]:
    output = tmp_path_factory.mktemp("server") / "output"
    command = [sys.executable, "-m", "nextscale", "app", saved, "--port", "0", "--queue", "3"]
    with output.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, **VARIABLES}
        )
    end = time.monotonic() + 120
    while not (found := re.search(r"http://[^;/]+", output.read_text())):
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < end
        time.sleep(0.1)
    with httpx.Client(base_url=found[0], timeout=60, trust_env=False) as client:
        yield Server(found[0], output, psutil.Process(process.pid), client)
    process.terminate()
    process.wait(30)


@contextmanager
def growth(server: Server) -> Iterator[list[int]]:
    """Gives a list of one: by how many bytes the server's memory grows meanwhile, at most."""
    before, most, over = server.process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            most[0] = max(most[0], server.process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


@pytest.fixture(autouse=True)
def _no_traceback(server) -> Iterator[None]:
    """Whatever is sent, the server prints no traceback and goes on."""
    yield
    assert "Traceback" not in (text := server.output.read_text()), text[-3000:]
    assert server.get("/config").status_code == 200


def png(width: int, height: int) -> bytes:
    """A white picture of 1 bit, which is small however large it is."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * -(-width // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def arguments(server: Server) -> dict[str, dict]:
    """Arguments that serve, of every function of the API."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 128).save(buffer, "PNG")
    image = server.upload(buffer.getvalue())
    functions = server.get(f"{API}/info").json()["named_endpoints"]
    found = {}
    for name, function in functions.items():
        given = {p["parameter_name"]: p["parameter_default"] for p in function["parameters"]}
        if "image" in given:
            editor = {"background": image, "layers": [], "composite": None}
            given["image"] = editor if name == "/edit" else image
        if name == "/edit":
            given |= {"task": "vary", "candidates": 1}
        found[name.strip("/")] = given
    return found


def test_the_environment_changes_nothing(server) -> None:
    output = server.output.read_text()
    assert re.match(r"http://127\.0\.0\.1:\d+$", server.address)
    assert re.search("GRADIO_SHARE.* are ignored", output)
    assert not re.search("public URL|share link", output)
    assert server.get(f"{API}/file=/etc/hostname").status_code == 403
    for path in ("/monitoring", "/monitoring/summary", f"{API}/mcp/sse", f"{API}/vibe-code"):
        assert server.get(path).status_code == 404
    config = server.get("/config").json()
    assert config["root"] == server.address
    assert not config["analytics_enabled"]
    with psutil.Process(server.process.pid).oneshot():
        heard = [c.laddr.ip for c in server.process.net_connections() if c.status == "LISTEN"]
    assert heard == ["127.0.0.1"]


def test_the_api_names_its_outputs(server) -> None:
    functions = server.get(f"{API}/info").json()["named_endpoints"]
    labels = {name: [r["label"] for r in f["returns"]] for name, f in functions.items()}
    assert set(labels) == {"/draw", "/edit", "/look_inside"}
    assert labels["/draw"][:2] == ["Images", "summary"]
    assert not [label for names in labels.values() for label in names if "value_" in label]


def test_wrong_arguments_get_one_line(server) -> None:
    calls, before = 0, server.process.memory_info().rss
    for function, right in arguments(server).items():
        kind, value = server.call(function, list(right.values()))
        assert kind == "complete", (function, value)
        for name in right:
            for wrong in WRONG:
                kind, value = server.call(function, list({**right, name: wrong}.values()))
                fine = wrong is True and isinstance(right[name], bool)
                if fine or (name, wrong) in FINE:
                    assert kind == "complete", (function, name, wrong, value)
                    continue
                line = value["error"] if isinstance(value, dict) else str(value)
                assert kind == "error", (function, name, wrong, value)
                assert 10 < len(line) < 400, line
                assert not re.search(r"[\x00-\x1f]", line), line
                assert re.search(f"{name}|image|no class", line), (function, name, wrong, line)
                calls += 1
    assert calls > 300
    assert server.process.memory_info().rss - before < calls * GREY / 10


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("queue/join", b"{"),
        ("queue/join", b"[]"),
        ("queue/join", b"\xff\xfe"),
        ("queue/join", b"[" * 100000),
        ("queue/join", b'{"data": ' + b"[" * 900 + b"]" * 900 + b', "fn_index": 0}'),
        ("queue/join", b'{"fn_index": ' + b"9" * 5000 + b"}"),
        ("queue/join", b"{}"),
        ("queue/join", b'{"fn_index": 99, "data": []}'),
        ("queue/join", b'{"fn_index": true, "data": []}'),
        ("queue/join", b'{"fn_index": 0, "data": null, "session_hash": "a"}'),
        ("queue/join", b'{"fn_index": 0, "data": [], "session_hash": "a"}'),
        ("queue/join", b'{"fn_index": 0, "data": [1,2,3,4,5,6,7,8], "session_hash": "../"}'),
        ("run/predict", b'{"fn_index": 0, "data": [1,2,3,4,5,6,7,8]}'),
        ("run/draw", b'{"data": [["bag"], 1, 0, 0, 0, 0, false, 0]}'),
        ("api/draw", b'{"data": [["bag"], 1, 0, 0, 0, 0, false, 0]}'),
        ("call/draw", b'{"data": []}'),
        ("call/sail", b'{"data": []}'),
        ("call/v2/draw", b'{"sail": 1}'),
        ("call/v2/look_inside", b"{}"),
        ("cancel", b"{}"),
        ("cancel", b'{"session_hash": 5, "fn_index": [], "event_id": {}}'),
        (
            "component_server",
            b'{"data": {}, "component_id": 1, "session_hash": "a", "fn_name": "x"}',
        ),
        ("upload", b"no form"),
        ("stream/5", b"{}"),
        ("process_recording", b"{}"),
        ("queue/join", b'{"x": "' + b"x" * 2**19 + b'"}'),
    ],
)
def test_malformed_requests_are_refused(server, path, body) -> None:
    answer = server.post(f"{API}/{path}", content=body)
    assert answer.status_code in (400, 404, 413), answer.text
    assert len(answer.text) < 300


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/queue/data?session_hash=nobody",
        "/gradio_api/call/draw/nothing",
        "/gradio_api/proxy=http://127.0.0.1:9/",
        "/gradio_api/file=http://127.0.0.1:9/",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=/etc/%00",
        "/gradio_api/file=" + "/a" * 3000,
        "/static/../../etc/passwd",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/assets/%00",
        "/?deep_link=../../x",
        "/gradio_api/dev/reload",
        "/gradio_api/runs",
        "/gradio_api/deep_link",
        "/docs",
    ],
)
def test_paths_that_are_none_of_the_page(server, path) -> None:
    assert server.get(path).status_code in (400, 403, 404)


def test_forms_that_hold_no_files(server) -> None:
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}
    text = b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--b--\r\n'
    broken = b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"
    for body in (text, broken, b"--b", b""):
        answer = server.post(f"{API}/upload", content=body, headers=boundary)
        assert answer.status_code in (200, 400), answer.text
    large = {"files": ("x", b"x" * (21 * 2**20))}
    assert server.post(f"{API}/upload", files=large).status_code == 413

    def parts() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
        for _ in range(22):
            yield b"x" * 2**20

    try:
        answer = server.post(f"{API}/upload", content=parts(), headers=boundary)
        assert answer.status_code in (400, 413)
    except httpx.WriteError:  # it is answered before everything is sent
        pass


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "LOCALHOST."}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "evil.example@127.0.0.1"}, 200),
        ({"Host": "127.0.0.1@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
    ],
)
def test_requests_of_other_sites_are_refused(server, headers, status) -> None:
    answer = server.get("/config", headers=headers)
    assert answer.status_code == status
    assert "evil" not in answer.headers.get("access-control-allow-origin", "")
    body = b'{"data": []}'
    posted = server.post(f"{API}/call/sail", content=body, headers=headers)
    assert posted.status_code == (404 if status == 200 else status)


def test_forwarding_headers_do_not_move_the_page(server) -> None:
    forwarded = {"X-Forwarded-Host": "evil.example", "X-Gradio-Server": "http://evil.example"}
    assert "evil" not in server.get("/config", headers=forwarded).text
    assert "evil" not in server.get(f"{API}/info", headers=forwarded).text


def test_a_picture_bomb_is_refused_before_it_is_decoded(server) -> None:
    bomb, fair = server.upload(png(32000, 32000)), server.upload(png(64, 64))
    right = arguments(server)["edit"]

    def editor(background: dict, *layers: dict) -> list:
        image = {"background": background, "layers": list(layers), "composite": bomb}
        return list({**right, "image": image}.values())

    calls = [
        ("look_inside", [bomb], "at most 16 million pixels"),
        ("look_inside", [server.upload(png(4097, 4096))], "4097x4096"),
        ("edit", editor(bomb), "at most 16 million pixels"),
        ("edit", editor(fair, bomb), "at most 16 million pixels"),
        ("edit", editor(*[fair] * 6), "at most 4"),
    ]
    with growth(server) as grown:
        for function, data, complaint in calls:
            kind, value = server.call(function, data)
            assert kind == "error", value
            assert complaint in value["error"]
        kind, value = server.call("edit", editor(*[fair] * 5))  # the composite is not decoded
        assert kind == "complete", value
    assert grown[0] < 60 * 2**20


def test_damaged_pictures_get_one_line(server) -> None:
    picture = Image.effect_noise((64, 48), 90)
    exif = b"Exif\0\0" + b"\xff" * 40
    for kind, options in (
        ("PNG", {}),
        ("JPEG", {"exif": exif}),
        ("WEBP", {}),
        ("GIF", {}),
        ("TIFF", {}),
    ):
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        whole = buffer.getvalue()
        for cut in (1, len(whole) // 2):
            result, value = server.call("look_inside", [server.upload(whole[:cut])])
            assert result == "complete" or len(value["error"]) < 300
        for place in range(8, 100, 23):
            hurt = whole[:place] + bytes([whole[place] ^ 0xFF]) * 3 + whole[place + 3 :]
            result, value = server.call("look_inside", [server.upload(hurt)])
            assert result == "complete" or len(value["error"]) < 300


def test_addresses_are_not_fetched(server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.3)
        address = f"http://127.0.0.1:{other.getsockname()[1]}/x.png"
        for given in ({"path": address}, {"path": None, "url": address}, {"url": address}):
            file = {**given, "meta": {"_type": "gradio.FileData"}}
            kind, value = server.call("look_inside", [file])
            assert kind == "error"
            assert "upload" in value["error"]
        with pytest.raises(TimeoutError):
            other.accept()


def test_a_result_is_never_written_over(server) -> None:
    given = [["bag"], 2, 0, 0, 0, 0, False, 0]
    first, second = (server.call("draw", given)[1][0] for _ in range(2))
    paths = [Path(each["image"]["path"]) for each in (*first, *second)]
    assert len(set(paths)) == 4
    assert paths[0].read_bytes() == paths[2].read_bytes()
    times = [path.stat().st_mtime_ns for path in paths]
    server.call("draw", given)
    assert times == [path.stat().st_mtime_ns for path in paths]
