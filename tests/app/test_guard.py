"""Who may ask, without a server."""

import os

import pytest

from nextscale.app.environment import own_environment
from nextscale.app.guard import LOOPBACK, hosts_of, name_of


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", LOOPBACK),
        ("localhost", LOOPBACK),
        ("[::1]", LOOPBACK),
        ("127.0.0.2", LOOPBACK | {"127.0.0.2"}),
        ("192.168.1.5", {"192.168.1.5"}),
        ("Box.lan", {"box.lan"}),
        ("0.0.0.0", None),
        ("::", None),
    ],
)
def test_a_page_answers_by_the_names_of_its_host(host, names) -> None:
    assert hosts_of(host) == names


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:80", "localhost"),
        ("[::1]:80", "::1"),
        ("EVIL.example.:80", "evil.example"),
        ("127.0.0.1@evil.example", "evil.example"),
        ("[::1", ""),
        ("", ""),
    ],
)
def test_the_name_in_a_header(header, name) -> None:
    assert name_of(header) == name


def test_variables_of_gradio_are_dropped_and_proxies_passed_by(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("GRADIO_SHARE", "True")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/elsewhere")
    monkeypatch.setenv("no_proxy", "inside")
    monkeypatch.setenv("NO_PROXY", "")
    assert "GRADIO_SHARE" in own_environment(tmp_path)
    assert "GRADIO_SHARE" not in os.environ
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)
    assert os.environ["no_proxy"] == "inside,127.0.0.1,localhost"
    assert os.environ["NO_PROXY"] == "127.0.0.1,localhost"
