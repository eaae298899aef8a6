"""The page's functions over HTTP, by Gradio's own client."""

import threading
import zipfile

import pytest
from PIL import Image

pytest.importorskip("gradio")
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError


@pytest.fixture(scope="module")
def client(address) -> Client:
    return Client(address, verbose=False)


def draw(client: Client, count: int = 2, seed: float = 0) -> tuple:
    off = {"top_k": 0, "top_p": 0, "smooth": False}
    return client.predict(labels=["Bag"], count=count, seed=seed, cfg=1.5, **off, api_name="/draw")


def edit(client: Client, image, mask, **changes) -> tuple:
    editor = {
        "background": image and handle_file(str(image)),
        "layers": [] if mask is None else [handle_file(str(mask))],
        "composite": None,
    }
    options = {
        **{"task": "inpaint", "label": "none", "candidates": 2, "seed": 0, "recode": False},
        **{"fill": True, "paste": False, "feather": 0, "rule": "released", "keep_scales": 3},
        **{"sides": "0 0 7 0", "cfg": 0, "top_k": 0, "top_p": 0, "smooth": False, **changes},
    }
    return client.predict(editor, *options.values(), api_name="/edit")


@pytest.fixture
def image(tmp_path):
    Image.new("L", (28, 28), 128).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def mask(tmp_path):
    mask = Image.new("RGBA", (28, 28), 0)
    mask.paste((255, 0, 170, 255), (8, 8, 20, 20))
    mask.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_the_api_is_named_and_typed(client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/draw", "/edit", "/look_inside"}
    parameters = named["/draw"]["parameters"]
    assert [p["python_type"]["type"] for p in parameters[1:3]] == ["float", "float"]


def test_draw_gives_pictures_and_an_archive(client) -> None:
    job = client.submit(["Bag", "none"], 2, 0, 1.5, 0, 0, False, api_name="/draw")
    gallery, summary, file = job.result(timeout=60)
    assert summary == "2 drawn, seeds from 0"
    assert len(gallery) == 2
    assert len(job.outputs()) > 2  # pictures of coarser scales arrived before
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["0000.png", "0001.png", "repeat.json"]


def test_edit_and_look_inside(client, image, mask) -> None:
    gallery, summary, file = edit(client, image, mask)
    assert len(gallery) == 2
    assert "likeliest first" in summary
    assert "mask.png" in zipfile.ZipFile(file).namelist()
    assert len(edit(client, image, None, task="outpaint", candidates=1)[0]) == 1
    assert len(edit(client, image, None, task="vary", candidates=3)[0]) == 3
    tiles, growth, use = client.predict(image=handle_file(str(image)), api_name="/look_inside")
    assert len(tiles) == len(growth) == len(use["data"]) == 6


def test_bad_input_is_answered_and_the_server_goes_on(client, image, mask, tmp_path) -> None:
    Image.new("RGBA", (9, 8), (1, 1, 1, 255)).save(tmp_path / "wide.png")
    Image.new("RGBA", (28, 28), (1, 1, 1, 255)).save(tmp_path / "full.png")
    frames = [Image.new("L", (28, 28), value) for value in (0, 255)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("L", (20000, 10)).save(tmp_path / "long.png")
    (tmp_path / "half.png").write_bytes(image.read_bytes()[:50])
    cases = [
        (lambda: draw(client, count=33), "33"),
        (lambda: draw(client, seed=-4), "seed is -4"),
        (lambda: draw(client, seed=1.5), "seed is 1.5; a whole number"),
        (lambda: edit(client, None, None), "there is no image"),
        (lambda: edit(client, image, None), "nothing is marked"),
        (lambda: edit(client, image, tmp_path / "wide.png"), "the mask has 9x8 pixels and"),
        (lambda: edit(client, image, tmp_path / "full.png"), "the mask is full"),
        (lambda: edit(client, image, mask, task="class"), "choose the class"),
        (lambda: edit(client, image, mask, feather=99), "99"),
        (lambda: edit(client, image, None, task="outpaint", sides="a"), "sides is 'a'"),
        (lambda: edit(client, tmp_path / "long.png", None, task="vary"), "has 20000x10 pixels"),
        (lambda: edit(client, tmp_path / "half.png", mask), "the image cannot be read"),
        (lambda: edit(client, tmp_path / "moving.gif", mask), "animated"),
    ]
    for call, complaint in cases:
        with pytest.raises((AppError, ValueError), match=complaint):
            call()
    assert draw(client)[1] == "2 drawn, seeds from 0"


def test_what_exceeds_the_queue_is_refused_with_a_message(address) -> None:
    client = Client(address, verbose=False)
    answers: list[str] = []

    def ask() -> None:
        try:
            answers.append(draw(client, 12)[1])
        except QueueError as error:
            answers.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    drawn = [answer for answer in answers if answer == "12 drawn, seeds from 0"]
    assert len(drawn) >= 2
    assert len(answers) == 8
    assert all("ueue is full" in answer for answer in answers if answer not in drawn)
    assert len(drawn) < 8
