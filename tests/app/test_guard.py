"""Which requests reach the page: hosts, sites and paths."""

import pytest

pytest.importorskip("gradio")
from nextscale.app.guard import API, LOOPBACK, hosts_of, name_of


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", LOOPBACK),
        ("localhost", LOOPBACK),
        ("::1", LOOPBACK),
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
        "/gradio_api/dev/reload",
        "/gradio_api/runs",
        "/gradio_api/deep_link",
        "/docs",
    ],
)
def test_paths_that_are_none_of_the_page(server, path) -> None:
    assert server.get(path).status_code in (400, 403, 404)


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
