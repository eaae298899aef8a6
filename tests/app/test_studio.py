"""The page's work without the page."""

import json
import shlex
import zipfile

import pytest
import torch
from PIL import Image

from nextscale.app.codes import code_colours, code_use, token_tiles
from nextscale.cli.main import main
from nextscale.errors import UsageError
from nextscale.pictures.pixels import to_pictures

PLAIN = {"cfg": 0.0, "top_k": 0, "top_p": 0.0, "smooth": False}
KEEPING = {"rule": "released", "recode": False, "feather": 0}


@pytest.fixture
def picture(images) -> Image.Image:
    return to_pictures(images[:1])[0]


@pytest.fixture
def mask() -> Image.Image:
    mask = Image.new("L", (8, 8), 0)
    mask.paste(255, (4, 2, 8, 6))
    return mask


def test_drawing_shows_every_scale_and_ends_with_what_the_pipeline_draws(studio, pipe) -> None:
    steps = list(studio.draw(["bag", "none"], 3, 5, {**PLAIN, "cfg": 2.0}))
    assert [step.summary for step in steps[:3]] == [f"scale {k} of 3" for k in (1, 2, 3)]
    assert all(step.file == "" for step in steps[:3])
    expected = pipe.sample(["bag", None, "bag"], seed=5, cfg=2.0)
    assert [p.tobytes() for p in steps[-1].pictures] == [p.tobytes() for p in expected]
    assert steps[0].pictures[0].tobytes() != expected[0].tobytes()


def test_classes_beyond_the_images_are_told(studio) -> None:
    *_, last = studio.draw(["bag", "coat", "none"], 1, 0, PLAIN)
    assert last.summary.endswith("; more classes than images, so not drawn: coat, none")
    record = json.loads(zipfile.ZipFile(last.file).read("repeat.json"))
    assert "--labels bag --count 1" in record["command"]


def test_an_example_is_always_the_same_and_has_a_hole(studio) -> None:
    (picture, mask), (again, _) = studio.example(), studio.example()
    assert picture.tobytes() == again.tobytes()
    assert mask.getbbox() == (2, 2, 6, 6)


def test_edits_come_one_by_one_likeliest_first(studio, pipe, picture, mask) -> None:
    given = ("inpaint", picture, mask, "coat", 3, 7, {"fill": True, "paste": False, **KEEPING})
    steps = list(studio.edit(*given, PLAIN))
    assert [len(step.pictures) for step in steps] == [1, 2, 3, 3]
    expected = pipe.edit(picture, mask, "coat", candidates=3, seed=7)
    assert [p.tobytes() for p in steps[-1].pictures] == [p.tobytes() for p in expected]


def test_what_is_done_to_the_image_is_said(studio) -> None:
    large = Image.new("RGB", (20, 16), "red")
    *_, last = studio.edit("vary", large, None, "none", 1, 0, {"keep_scales": 1}, PLAIN)
    assert last.summary.endswith(
        "; the image was resized and cut to 8x8; the image was converted to grey"
    )


def test_archives_hold_a_command_that_makes_their_pictures(
    studio, saved, picture, mask, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(studio.identity, "model", saved)
    monkeypatch.chdir(tmp_path)
    fill = {"fill": False, "paste": True, **KEEPING, "rule": "strict", "recode": True}
    jobs = {
        "sample": studio.draw(
            ["bag", "none"], 3, 5, {**PLAIN, "top_k": 4, "smooth": True, "mean_scales": 1}
        ),
        "inpaint": studio.edit("inpaint", picture, mask, "none", 2, 3, fill, PLAIN),
        "class": studio.edit("class", picture, mask, "bag", 1, 3, fill, {**PLAIN, "cfg": 2.0}),
        "outpaint": studio.edit(
            "outpaint", picture, None, "coat", 1, 3, {"sides": [2, 0, 1, 4], **KEEPING}, PLAIN
        ),
        "vary": studio.edit("vary", picture, None, "none", 2, 3, {"keep_scales": 2}, PLAIN),
    }
    for name, job in jobs.items():
        folder = tmp_path / name
        with zipfile.ZipFile(list(job)[-1].file) as archive:
            archive.extractall(folder)
        monkeypatch.chdir(folder)
        command = json.loads((folder / "repeat.json").read_text())["command"]
        assert main([*shlex.split(command)[1:], "--out", "again"]) == 0
        made = sorted(
            path for path in (folder / "again").glob("*.png") if path.stem not in ("grid", "sheet")
        )
        packed = sorted(folder.glob("edit-*.png")) or sorted(folder.glob("0*.png"))
        assert len(made) == len(packed) > 0
        for one, other in zip(made, packed, strict=True):
            assert Image.open(one).tobytes() == Image.open(other).tobytes(), name


def test_a_watch_stops_an_edit(studio, picture) -> None:
    scales = []

    def watch() -> None:
        scales.append(1)
        if len(scales) == 5:
            raise UsageError("stopped")

    job = studio.edit("vary", picture, None, "none", 9, 0, {"keep_scales": 1}, PLAIN, watch)
    with pytest.raises(UsageError, match="stopped"):
        list(job)
    assert len(scales) == 5  # the second candidate's second scale of three


def test_inside_are_tiles_growth_and_the_use_of_codes(studio, pipe, picture) -> None:
    tiles, growth, use = studio.look_inside(picture)
    assert len(tiles) == len(growth) == len(use) == 3
    assert growth[-1].tobytes() == pipe.reconstruct(picture)[0].tobytes()
    assert [row[:2] for row in use] == [("1x1", 1), ("2x2", 4), ("4x4", 16)]
    assert min(tile.width for tile in tiles) >= 224


def test_a_colour_a_code() -> None:
    colours = code_colours(torch.randn(300, 8))
    assert len(colours.unique(dim=0)) == 300
    assert code_colours(torch.randn(5, 2)).shape == (5, 3)
    tile = token_tiles(torch.tensor([[1, 2], [1, 1]]), colours)
    assert tile.size == (224, 224)
    assert tile.getpixel((223, 0)) == tuple(colours[2].tolist())
    assert code_use([torch.tensor([[1, 2], [1, 1]])], 8) == [("2x2", 4, 2, 0.25)]


def test_refusals(studio, picture, mask) -> None:
    fill = {"fill": True, "paste": False, **KEEPING}
    animated = Image.new("L", (8, 8))
    animated.is_animated = True  # pyright: ignore
    jobs = {
        "count is 33; it must be a whole number from 1 to 32": studio.draw(["bag"], 33, 0, PLAIN),
        "count is None": studio.draw(["bag"], None, 0, PLAIN),
        "seed is -1": studio.draw(["bag"], 1, -1, PLAIN),
        "no class is chosen": studio.draw([], 1, 0, PLAIN),
        "unknown label 'boat'": studio.draw(["boat"], 1, 0, PLAIN),
        "cfg is -1": studio.draw(["bag"], 1, 0, {**PLAIN, "cfg": -1.0}),
        "candidates is 0": studio.edit("inpaint", picture, mask, "bag", 0, 0, fill, PLAIN),
        "choose the class": studio.edit("class", picture, mask, "none", 1, 0, fill, PLAIN),
        "nothing is marked": studio.edit("inpaint", picture, None, "none", 1, 0, fill, PLAIN),
        "is animated": studio.edit("inpaint", animated, mask, "none", 1, 0, fill, PLAIN),
    }
    for complaint, job in jobs.items():
        with pytest.raises(UsageError, match=complaint):
            list(job)
