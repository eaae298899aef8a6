"""The page beside a run: what it shows of the log, and that nothing in it leads elsewhere."""

import base64
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

import nextscale
from nextscale.training.chart import MOST_POINTS, chart, thinned
from nextscale.training.history import History, curve
from nextscale.training.run_report import PICTURES, REPORT, page, picture_name
from tests.training import runs

NASTY = '<script>alert(1)</script>"&\x1b[31m\udcff'


def test_a_chart_is_a_picture_of_its_points() -> None:
    drawn = chart("a < b", {"one": [(0, 1), (10, 3)], "two": [(5, 2)], "none": []})
    root = ElementTree.fromstring(drawn)
    first, second = root.iter("polyline")
    assert first.get("points") == "62.0,224.0 392.0,28.0"
    assert second.get("points") == "227.0,126.0"
    texts = [element.text for element in root.iter("text")]
    assert texts[0] == "a < b"
    assert {"1", "2", "3", "0", "5", "10", "one", "two"} <= set(texts)
    assert "none" not in texts
    assert chart("empty", {"none": []}) == ""


def test_large_ranges_are_logarithmic_and_long_lines_thinned() -> None:
    drawn = chart("loss", {"one": [(0, 100), (1, 1), (2, 0.01)]})
    assert "loss, logarithmic" in drawn
    assert "227.0,126.0" in drawn  # the middle of both axes
    assert "logarithmic" not in chart("loss", {"one": [(0, 100), (1, -1)]})
    points = thinned([(step, step % 2) for step in range(10 * MOST_POINTS)])
    assert len(points) == MOST_POINTS
    assert points[-1] == (10 * MOST_POINTS - 1, 0.5)


def test_a_log_of_anyone_is_read_as_far_as_it_goes() -> None:
    log = [
        {"step": 1, "loss": 2.0, "code_use": [0.5, "x"]},
        {"step": "2", "loss": 1.0},
        {"step": 3, "loss": "nan", "code_use": 5},
        {"step": 4, "loss": float("inf"), "code_use": []},
        {"event": "validation", "step": 4, "loss": 3.0},
        {"event": "odd", "step": 9},
    ]
    history = History.of(log, {})
    assert curve(history.steps, "loss") == [(1, 2), (0, 1)]
    assert curve(history.steps, "code_use", 0) == [(1, 0.5)]
    assert curve(history.steps, "code_use", 1) == []
    assert (history.done, history.best, history.finished) == (4, (4, 3), {})
    log.append({"event": "finished", "step": 4})
    assert History.of(log, {}).finished == {"event": "finished", "step": 4}
    log.append({"step": 5})
    assert History.of(log, {}).finished == {}


class Links(HTMLParser):
    """Tags, and attributes that would be fetched."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_names_from_others_are_text(tmp_path: Path) -> None:
    (tmp_path / PICTURES).mkdir()
    (tmp_path / PICTURES / picture_name("samples", 1)).write_bytes(b"png")
    start = {"shown": [NASTY], "fewest": [NASTY, 1], "most": ["bag", 99], "steps": NASTY}
    validation = {"step": 1, "event": "validation", "loss": 1.0}
    html = page(tmp_path, NASTY, History(start=start, validations=(validation,)))
    assert "script" not in Links(html).tags
    assert "&lt;script&gt;" in html
    assert "\x1b" not in html
    html.encode()


def test_pictures_are_inside_and_no_link_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "run" / PICTURES
    folder.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    for step in (1, 2, 3):
        (folder / picture_name("samples", step)).write_bytes(b"picture %d" % step)
    (folder / picture_name("samples", 4)).symlink_to(secret)
    (folder / "notes.png").write_bytes(b"notes")
    values = ({"step": 1, "loss": 3.0}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 2.0})
    history = History(validations=values)
    links = Links(page(tmp_path / "run", "train var", history)).links
    found = [base64.b64decode(link.removeprefix("data:image/png;base64,")) for link in links]
    assert found == [b"picture 3", b"picture 2", b"picture 1"]
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert not Links(page(tmp_path / "run", "train var", history)).links


@pytest.mark.parametrize("stage", ["tokenizer", "var", "classifier"])
def test_a_run_draws_its_report(
    stage: str, trained: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["--epochs", 2, "--log-every", 1]
    words += ["--tokenizer", trained, "--cache-tokens", 0] if stage == "var" else []
    assert runs.train(stage, out, pictures, *words, "--max-steps", 3) == 0
    first = (out / REPORT).read_text()
    assert runs.train(stage, out, pictures, *words, "--resume") == 0
    html = (out / REPORT).read_text()
    told = capfd.readouterr().out
    assert f"are in {out / REPORT}" in told
    hint = "3 steps an epoch, 6 in all: give a smaller --batch-size than 8"
    assert f"hint: {hint}" in told
    assert hint in html
    assert f"train {stage}, step 3 of 6; " in first
    assert f"train {stage}, step 6 of 6; " in html
    assert "finished</p>" in html
    for drawn in re.findall("<svg.*?</svg>", html):
        ElementTree.fromstring(drawn)
    assert ">loss<" in html
    assert ("share of codes used" in html) == (stage == "tokenizer")
    assert all(link.startswith("data:image/png") for link in Links(html).links)
    kind = {"tokenizer": "reconstructions", "var": "samples"}.get(stage)
    grids = sorted(path.name for path in out.glob(f"{PICTURES}/*"))
    assert grids == ([picture_name(kind, step) for step in (3, 6)] if kind else [])
    if kind:
        assert re.search(r"step 6 \(newest(, best)?\), of bag, bag, bag, bag, boot", html)


def test_names_from_others_are_escaped_where_they_are_printed(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(pictures, tmp_path / "data"))
    for part in ("train", "val"):
        (data / part / "boot").rename(data / part / "\x1b[31mred")
    for i in range(100):
        (data / "train/bag" / f"more {i}.png").hardlink_to(data / "train/bag/0.png")
    out = tmp_path / "run\x1b[2J"
    assert runs.train("tokenizer", out, data, "--max-steps", 1) == 0
    assert runs.train("tokenizer", out, data, "--max-steps", 1, "--resume") == 0
    nextscale.load(out)
    told = capfd.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "hint: the class bag has 108 images, \\x1b[31mred has 8" in told.out
