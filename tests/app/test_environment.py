"""The page's surroundings: variables, proxies, and what it listens on."""

import os
import re

import pytest

from nextscale.app.environment import own_environment

pytest.importorskip("gradio")
from tests.app.server import API


def test_variables_of_gradio_are_dropped_and_proxies_passed_by(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("GRADIO_SHARE", "True")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/elsewhere")
    monkeypatch.setenv("no_proxy", "inside")
    monkeypatch.setenv("NO_PROXY", "")
    assert "GRADIO_SHARE" in own_environment(tmp_path, "10.0.0.7")
    assert "GRADIO_SHARE" not in os.environ
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)
    assert os.environ["no_proxy"] == "inside,127.0.0.1,localhost,::1,10.0.0.7"
    assert os.environ["NO_PROXY"] == "127.0.0.1,localhost,::1,10.0.0.7"


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
    heard = [c.laddr.ip for c in server.process.net_connections() if c.status == "LISTEN"]
    assert heard == ["127.0.0.1"]
