"""`nextscale app`: serves until it is told to stop, and refuses what cannot be served."""

import re
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest

pytest.importorskip("gradio")


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_stops(saved, end) -> None:
    command = [sys.executable, "-m", "nextscale", "app", saved, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            told = next(line for line in process.stderr if "the page is at" in line)
            assert urlopen(re.search(r"http://127\.0\.0\.1:\d+", told)[0]).status == 200
            process.send_signal(end)
            assert process.wait(20) == 0
        finally:
            process.kill()  # a page that did not stop would be waited for without end


def test_refusals(saved, refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = refused("app", saved, "--port", port)
        assert f"127.0.0.1 port {port} cannot be listened on" in told
    assert "port 99999 cannot be listened on" in refused("app", saved, "--port", 99999)
    assert "--queue is 0" in refused("app", saved, "--queue", 0)
    assert "999.0.0.1 port 0 cannot be listened on" in refused(
        "app", saved, "--host", "999.0.0.1", "--port", 0
    )
