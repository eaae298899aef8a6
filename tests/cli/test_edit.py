"""`nextscale edit ...`: pictures and masks from files, edits and a sheet into a directory."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextscale import load
from nextscale.cli.main import main


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two pictures of the tiny model's size, and masks."""
    noise = np.random.default_rng(1).integers(0, 256, (2, 8, 8), np.uint8)
    for name, pixels in zip(("one", "two"), noise, strict=True):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    mask = Image.new("L", (8, 8), 0)
    mask.paste(255, (4, 0, 8, 8))
    mask.save(tmp_path / "mask.png")
    return tmp_path


def run(*words: object) -> Path:
    """Runs a command whose last word is the output directory, and gives that."""
    assert main([str(word) for word in words]) == 0
    return Path(str(words[-1]))


def test_inpaint_writes_edits_a_sheet_and_what_repeats_them(saved, folder, capsys) -> None:
    one, two = folder / "one.png", folder / "two.png"
    given = ["edit", "inpaint", saved, one, two, "--mask", folder / "mask.png"]
    out = run(*given, "--candidates", 3, "--paste", "--seed", 4, "--out", folder / "out")
    assert "6 edits of 2 images" in capsys.readouterr().out
    assert Image.open(out / "sheet.png").size == (5 * 32 + 4 * 4, 2 * 32 + 4)
    record = json.loads((out / "edits.json").read_text())
    assert record["edit"] == "inpaint"
    assert record["options"]["paste"] is True
    assert [entry["file"] for entry in record["images"][:2]] == [
        "one-inpaint-1.png",
        "one-inpaint-2.png",
    ]
    scores = [entry["log_probability"] for entry in record["images"]]
    assert scores[3:] == sorted(scores[3:], reverse=True)
    expected = load(saved).inpaint(
        [Image.open(one), Image.open(two)],
        Image.open(folder / "mask.png"),
        candidates=3,
        seed=4,
        paste=True,
    )
    for entry, picture in zip(record["images"], expected, strict=True):
        assert Image.open(out / entry["file"]).tobytes() == picture.tobytes()
        assert entry["seed"] == picture.info["seed"]


def test_batches_and_boxes_change_nothing(saved, folder) -> None:
    images = [folder / "one.png", folder / "two.png"]
    box = ["--box", 4, 0, 8, 8, "--batch", 1]
    masked = run(
        "edit", "class", saved, *images, "--label", "bag", "coat", *box, "--out", folder / "a"
    )
    masks = folder / "masks"
    masks.mkdir()
    for name in ("1.png", "2.png"):
        shutil.copy(folder / "mask.png", masks / name)
    whole = run(
        *("edit", "class", saved, "--label", "bag", "coat"),
        *("--mask", masks, *images, "--out", folder / "b"),  # a mask takes no image for itself
    )
    for name in ("one-class-1.png", "two-class-1.png"):
        assert (masked / name).read_bytes() == (whole / name).read_bytes()


def test_transparency_is_a_mask(saved, folder) -> None:
    clear = Image.open(folder / "one.png").convert("RGBA")
    clear.putalpha(Image.open(folder / "mask.png").point(lambda value: 255 - value))
    clear.save(folder / "clear.png")
    by_alpha = run("edit", "inpaint", saved, folder / "clear.png", "--out", folder / "a")
    masked = ["--mask", folder / "mask.png", "--out", folder / "b"]
    by_mask = run("edit", "inpaint", saved, folder / "one.png", *masked)
    one, other = by_alpha / "clear-inpaint-1.png", by_mask / "one-inpaint-1.png"
    assert one.read_bytes() == other.read_bytes()


def test_outpaint_vary_and_interpolate(saved, folder, capsys) -> None:
    one, two = folder / "one.png", folder / "two.png"
    out = run("edit", "outpaint", saved, one, "--sides", 4, 0, 0, 2, "--out", folder / "a")
    assert Image.open(out / "one-outpaint-1.png").size == (12, 10)
    out = run("edit", "outpaint", saved, one, "--box", 2, 2, 6, 6, "--out", folder / "b")
    assert Image.open(out / "one-outpaint-1.png").size == (8, 8)
    out = run("edit", "vary", saved, one, "--keep-scales", 3, "--out", folder / "c")
    decoded = load(saved).reconstruct(Image.open(one))[0]
    assert Image.open(out / "one-vary-1.png").tobytes() == decoded.tobytes()
    out = run("edit", "interpolate", saved, one, two, "--steps", 4, "--out", folder / "d")
    assert len(list(out.glob("one-two-*.png"))) == 4
    assert "4 pictures" in capsys.readouterr().out


def test_what_is_changed_is_said(saved, photographs, capsys) -> None:
    run("edit", "vary", saved, photographs, "--keep-scales", 1, "--out", photographs / "out")
    told = capsys.readouterr().err
    assert "2 of 2 images are resized and cut to 8x8" in told
    assert "1 of 2 images are converted to grey" in told


def test_bad_input_is_one_line(saved, folder, refused) -> None:
    one, out = folder / "one.png", ("--out", folder / "out")
    inpaint = ("edit", "inpaint", saved, one)
    Image.new("L", (9, 8), 255).save(folder / "wide.png")
    Image.new("L", (8, 8), 0).save(folder / "black.png")
    Image.new("L", (8, 8), 255).save(folder / "white.png")
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    (folder / "half.png").write_bytes(one.read_bytes()[:60])
    Image.new("L", (20000, 2)).save(folder / "long.png")
    (folder / "masks").mkdir()
    for name in ("wide.png", "black.png"):
        shutil.copy(folder / name, folder / "masks")
    cases = {
        ("--mask", "wide.png"): "the mask has 9x8 pixels and the image 8x8",
        ("--mask", "black.png"): "the mask is empty",
        ("--mask", "white.png"): "the mask is full",
        ("--mask", "no.png"): "there is no",
        ("--mask", "masks/"): "2 masks are given for 1 images",
        ("--mask", "moving.gif"): "moving.gif is animated; give a single picture",
        ("--mask", "half.png"): "half.png cannot be read",
        ("--mask", "long.png"): "long.png has 20000x2 pixels; at most 16384 a side are taken",
        (): "no mask is given, and nothing of the image is transparent",
    }
    for words, complaint in cases.items():
        given = [folder / word if word[0] != "-" else word for word in words]
        assert complaint in refused(*inpaint, *given, *out)
    mask = ("--mask", folder / "mask.png")
    more = {
        ("edit", "class", saved, one, *mask): "--label is missing; give the class",
        (
            "edit",
            "class",
            saved,
            one,
            *mask,
            "--label",
            "boat",
        ): "unknown label 'boat'; did you mean 'coat'?",
        ("edit", "class", saved, one, *mask, "--label", 3): "label 3 is out of range",
        (*inpaint, *mask, "--box", 0, 0, 4, 4): "both --mask and --box are given",
        (*inpaint, "--box", 0, 0, 4, 40): "the box 0 0 4 40",
        (*inpaint, *mask, "--candidates", 0): "--candidates is 0; it must be at least 1",
        (*inpaint, *mask, "--seed", 2**63 - 1, "--candidates", 2): "it can be 9223372036853775807",
        (*inpaint, *mask, "--feather", -1): "--feather is -1; it must be at least 0",
        (*inpaint, *mask, "--label", 0, 1): "2 labels are given for 1 images",
        ("edit", "vary", saved, one, "--keep-scales", 9): "keep_scales is 9; it can be from 0 to 3",
        ("edit", "outpaint", saved, one): "give either --sides or --box",
        ("edit", "outpaint", saved, one, "--sides", 0, 0, 0, 0): "the sides are 0 0 0 0",
        ("edit", "interpolate", saved, one, one, "--steps", 1): "steps is 1; at least 2",
    }
    for words, complaint in more.items():
        assert complaint in refused(*words, *out)
    assert not (folder / "out").exists()


def test_names_that_are_not_utf8(saved, folder, capsys) -> None:
    given = os.fsdecode(os.fsencode(folder) + b"/caf\xe9\x1b.png")
    shutil.copy(folder / "one.png", given)
    out = run("edit", "vary", saved, given, "--keep-scales", 1, "--out", folder / "out")
    (entry,) = json.loads((out / "edits.json").read_text())["images"]
    assert entry["image"] == given
    assert (out / entry["file"]).is_file()
    run("reconstruct", saved, given, "--out", folder / "again")
    assert "caf\\xe9\\x1b" in capsys.readouterr().out
