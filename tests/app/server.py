"""A page in a process of its own, and what its tests send to it by HTTP."""

import io
import json
import os
import re
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

import httpx
import psutil
from PIL import Image

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


@contextmanager
def served(model: str, output: Path) -> Iterator[Server]:
    """A page of a model in a process whose output goes to a file, under hostile variables."""
    command = [sys.executable, "-m", "nextscale", "app", model, "--port", "0", "--queue", "3"]
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
