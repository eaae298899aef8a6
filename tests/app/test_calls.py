"""Requests that no client of the page sends: calls of what does not exist, and malformed ones."""

import pytest

pytest.importorskip("gradio")
from tests.app.server import API


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
        ("queue/join", b'{"fn_index": 0, "data": [1,2,3,4,5,6,7,8], "batched": true}'),
        ("queue/join", b'{"fn_index": 0, "data": [1,2,3,4,5,6,7,8], "event_data": "\\ud800"}'),
        ("queue/join", b'{"fn_index": 99, "data": []}'),
        ("queue/join", b'{"fn_index": true, "data": []}'),
        ("queue/join", b'{"fn_index": 0, "data": null, "session_hash": "a"}'),
        ("queue/join", b'{"fn_index": 0, "data": [], "session_hash": "a"}'),
        ("queue/join", b'{"fn_index": 0, "data": [1,2,3,4,5,6,7,8], "session_hash": "../"}'),
        ("run/predict", b'{"fn_index": 0, "data": [1,2,3,4,5,6,7,8]}'),
        ("run/draw", b'{"data": [["bag"], 1, 0, 0, 0, 0, false, 0]}'),
        ("api/draw", b'{"data": [["bag"], 1, 0, 0, 0, 0, false, 0]}'),
        ("call/draw", b'{"data": []}'),
        ("call/draw", b'{"data": [' + b"[" * 240 + b"]" * 240 + b",1,0,0,0,0,false,0]}"),
        ("call/sail", b'{"data": []}'),
        ("call/v2/draw", b'{"sail": 1}'),
        ("call/v2/look_inside", b"{}"),
        ("cancel", b"{}"),
        ("cancel", b'{"session_hash": "\\ud800", "fn_index": NaN, "event_id": "a"}'),
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
