import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextscale.checkpoints import checkpoint
from nextscale.cli.main import main
from nextscale.cli.reconstruct import psnr, unique_names
from nextscale.config.model import ModelConfig
from nextscale.pictures.grids import GAP, enlarge
from nextscale.pipeline import Pipeline


def pixels(picture):
    return np.asarray(picture).astype(int)


def cell(whole, column, row=0):
    """A picture of a grid, 8x8 pixels enlarged to 32x32."""
    step = 32 + GAP
    return pixels(whole)[row * step :, column * step :][:32, :32]


def test_each_picture_and_a_sheet(saved, photographs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["reconstruct", saved, str(photographs), "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert sorted(file.name for file in out.iterdir()) == [
        "noise-reconstruction.png",
        "reconstructions.json",
        "sheet.png",
        "slope-reconstruction.png",
    ]
    pipe = checkpoint.load(saved)
    losses = []
    for column, name in enumerate(["noise.png", "slope.jpg"]):
        original = Image.open(photographs / name).convert("L")
        (decoded,) = pipe.reconstruct(original)
        written = Image.open(out / f"{name[:-4]}-reconstruction.png")
        assert np.abs(pixels(written) - pixels(decoded)).max() <= 1
        sheet = Image.open(out / "sheet.png")
        assert np.array_equal(cell(sheet, column, row=1), pixels(enlarge(written)))
        seen = Image.fromarray(cell(sheet, column)[::4, ::4].astype(np.uint8))
        losses.append(psnr(seen, written))
        assert re.fullmatch(rf"{name[:-4]} +{losses[-1]:.2f} dB", said[column])
    assert said[2].startswith(f"2 pictures, mean PSNR {sum(losses) / 2:.2f} dB; see ")


def test_the_pyramid_goes_from_the_picture_to_its_reconstruction(saved, photographs, tmp_path):
    out = tmp_path / "out"
    picture = photographs / "slope.jpg"
    main(["reconstruct", saved, str(picture), "--pyramid", "--out", str(out)])
    pyramid = Image.open(out / "slope-pyramid.png")
    assert pyramid.size == (4 * 32 + 3 * GAP, 32)  # the picture and three scales
    assert np.array_equal(cell(pyramid, 0), cell(Image.open(out / "sheet.png"), 0))
    last = enlarge(Image.open(out / "slope-reconstruction.png"))
    assert np.abs(cell(pyramid, 3) - pixels(last)).max() <= 1
    assert not np.array_equal(cell(pyramid, 1), cell(pyramid, 3))


def test_colour_and_a_tokenizer_alone(make_tokenizer, photographs, tmp_path):
    tokenizer = make_tokenizer(image_channels=3)
    checkpoint.save(Pipeline(tokenizer, None, ModelConfig(tokenizer.config)), tmp_path / "alone")
    out = tmp_path / "out"
    words = [str(tmp_path / "alone"), *map(str, photographs.iterdir()), "--batch", "1"]
    assert main(["reconstruct", *words, "--out", str(out)]) == 0
    assert Image.open(out / "noise-reconstruction.png").mode == "RGB"
    assert Image.open(out / "sheet.png").size == (2 * 32 + GAP, 2 * 32 + GAP)


def test_the_sheet_continues_in_further_rows(saved, photographs, tmp_path):
    words = [str(photographs / "noise.png")] * 11
    main(["reconstruct", saved, *words, "--out", str(tmp_path / "out")])
    assert Image.open(tmp_path / "out" / "sheet.png").size == (10 * 36 - GAP, 4 * 36 - GAP)
    assert (tmp_path / "out" / "noise-11-reconstruction.png").exists()


def test_names_that_meet_tell_their_folder_or_a_number():
    paths = [Path(name) for name in ("a/x.png", "b/x.png", "b/x.jpg", "b-x-2.png", "y.png")]
    assert unique_names(paths) == ["a-x", "b-x", "b-x-2", "b-x-2-2", "y"]
    assert unique_names([Path("y.png")] * 2) == ["y", "y-2"]


def test_psnr_is_that_of_images_in_0_to_1():
    one, other = Image.new("L", (4, 4), 0), Image.new("L", (4, 4), 51)
    assert psnr(one, other) == pytest.approx(-20 * math.log10(0.2))
    assert psnr(one, one) == math.inf


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no picture", "it holds no picture"), (None, "cannot be read")],
)
def test_one_bad_file_stops_before_anything_is_written(
    refused, saved, photographs, tmp_path, content, said
):
    broken = photographs / "zebra.png"
    broken.write_bytes(content or (photographs / "noise.png").read_bytes()[:900])
    line = refused("reconstruct", saved, photographs, "--out", tmp_path / "out")
    assert f"{broken} cannot be read" in line
    assert said in line
    assert not (tmp_path / "out").exists()


def test_missing_and_empty_places_are_refused(refused, saved, photographs, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    said = refused("reconstruct", saved, photographs, tmp_path / "none.png", "--out", out)
    assert f"there is no {tmp_path / 'none.png'}" in said
    said = refused("reconstruct", saved, tmp_path / "empty", "--out", out)
    assert f"{tmp_path / 'empty'} holds no images; known are png" in said
    said = refused("reconstruct", "unheard", photographs, "--out", out)
    assert "nothing is known as 'unheard'" in said
    said = refused("reconstruct", saved, photographs, "--batch", 0, "--out", out)
    assert "--batch is 0" in said
    assert not out.exists()


def test_it_needs_nothing_of_training(saved, photographs, tmp_path):
    code = (
        "import sys; from nextscale.cli.main import main; main(sys.argv[1:]);"
        "bad = ('torchvision', 'accelerate', 'scipy', 'torch._dynamo');"
        "sys.exit(' '.join(m for m in bad if m in sys.modules) or 0)"
    )
    words = ["reconstruct", saved, str(photographs), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "1 of 2 images are converted to grey\n")


def test_colours_that_change_are_told_once(saved, photographs, make_tokenizer, tmp_path, capsys):
    def told(model):
        out = tmp_path / "out"
        assert main(["reconstruct", str(model), str(photographs), "--out", str(out)]) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "images are" in line]

    assert told(saved) == ["1 of 2 images are converted to grey"]
    colour = make_tokenizer(image_channels=3)
    pipe = Pipeline(colour, None, ModelConfig(colour.config))
    checkpoint.save(pipe, tmp_path / "colour")
    assert told(tmp_path / "colour") == ["1 of 2 images are grey, repeated for three channels"]
