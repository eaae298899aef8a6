"""`nextscale app`: serves until it is told to stop, and refuses what cannot be served."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

pytest.importorskip("gradio")
import httpx


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "url", "end"),
    [
        ("127.0.0.1", "http://127.0.0.1:", signal.SIGINT),
        ("localhost", "http://localhost:", signal.SIGTERM),
        ("::1", "http://[::1]:", signal.SIGINT),
    ],
)
def test_it_serves_and_stops_in_the_middle_of_a_job(tmp_path, host, url, end) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    command = [sys.executable, "-m", "nextscale", "app", "fashion-mnist"]
    command += ["--port", "0", "--host", host]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    surroundings = {**os.environ, "TMPDIR": str(tmp_path), "HTTP_PROXY": "http://127.0.0.1:9"}
    with subprocess.Popen(command, **both, env=surroundings) as process:
        try:
            told = next(line for line in process.stdout if "the page is at" in line)
            found = re.search(re.escape(url) + r"\d+", told)[0]
            with httpx.Client(base_url=found, trust_env=False, timeout=60) as client:
                job = {"data": [["Bag"], 32, 0, 1, 0, 0, False, 0]}
                event = client.post("/gradio_api/call/draw", json=job).json()["event_id"]
                with client.stream("GET", f"/gradio_api/call/draw/{event}") as steps:
                    next(steps.iter_lines())  # the first scale is drawn
                    process.send_signal(end)
            assert process.communicate(timeout=60)[0] == "the page has stopped\n"
            assert process.returncode == 0
        finally:
            process.kill()  # a page that did not stop would be waited for without end
    assert not list(tmp_path.glob("nextscale-app-*"))


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_refusals(saved, refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = refused("app", saved, "--port", port)
        assert f"127.0.0.1 port {port} cannot be listened on" in told
    assert told.count("\n") == 1
    assert "port 99999 cannot be listened on" in refused("app", saved, "--port", 99999)
    assert "--queue is 0" in refused("app", saved, "--queue", 0)
    assert "999.0.0.1 port 0 cannot be listened on" in refused(
        "app", saved, "--host", "999.0.0.1", "--port", 0
    )
