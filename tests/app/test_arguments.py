"""Arguments that no control of the page sends: each gets one line and little memory."""

import io
import re
import socket
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("gradio")
from tests.app.server import API, arguments, growth, png

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
    "\x00\x1b[2J",
    [],
    ["bag"] * 1000,
    [[[[]]]],
    {},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"path": "http://127.0.0.1:9/x.png", "meta": {"_type": "gradio.FileData"}},
    {"background": {"path": "\x00"}, "layers": [1, None], "composite": 5},
]
FINE = [("cfg", 1.5), ("sides", "")]  # the latter is not read where nothing is continued


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
