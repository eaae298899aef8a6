"""`nextscale scaling-laws run|fit|predict|draw`: from a tokenizer to a prediction."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextscale.cli.main import main
from tests.scaling_laws.conftest import write_run


@pytest.fixture
def folder(tmp_path) -> Path:
    """Forty pictures of the tiny tokenizer's size, in two classes."""
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (40, 8, 8))):
        place = tmp_path / "images" / ("one", "two")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return tmp_path


@pytest.mark.slow
def test_a_ladder_from_run_to_picture(saved, folder, capsys) -> None:
    out = folder / "ladder"
    words = ["--depths", 1, 2, 3, "--sweep-depths", 1, "--sweep-factors", 1, "--width-step", 8]
    words += ["--head", 8, "--shares", 0.5, "--share-depth", 1, "--training.tokenizer", saved]
    words += ["--training.data.path", folder / "images", "--training.data.validation", 0.2]
    words += ["--training.batch-size", 8, "--training.epochs", 3, "--sweep-epochs", 1]
    words += ["--training.keep", 9, "--training.data.workers", 0]
    command = [str(word) for word in ["scaling-laws", "run", "--out", out, *words]]
    assert main(command) == 0
    assert main(command) == 0
    assert "5 of 5 runs are in" in capsys.readouterr().out
    fit = ["scaling-laws", "fit", str(out), "--held-out", "0", "--out", str(folder / "fit")]
    assert main(fit) == 0
    assert "| d3 " in capsys.readouterr().out
    for name in ("fit.json", "fit.md", "laws.png", "frontier.png", "scales.png"):
        assert (folder / "fit" / name).stat().st_size > 100
    predict = ["scaling-laws", "predict", str(folder / "fit/fit.json"), "--params", "50000"]
    assert main([*predict, "--rate", "100", "--json", str(folder / "p.json")]) == 0
    assert "test loss, all scales: " in capsys.readouterr().out
    assert json.loads((folder / "p.json").read_text())["params"] == 50000
    assert main(["scaling-laws", "draw", str(out), "--out", str(folder / "fit")]) == 0
    sheet = Image.open(folder / "fit/size_and_training.png")
    assert min(sheet.size) > 300
    for place in (out / "d2/checkpoints").glob("step-*"):
        shutil.rmtree(place)
    capsys.readouterr()
    assert main(["scaling-laws", "draw", str(out), "--out", str(folder / "fit")]) == 2
    assert "d2 has 0 checkpoints, 3 are needed" in capsys.readouterr().err


def test_refusals(tmp_path, refused) -> None:
    assert "give --out DIRECTORY" in refused("scaling-laws", "run")
    assert "there is no directory" in refused("scaling-laws", "fit", tmp_path / "no")
    for depth in (1, 2, 3):
        write_run(tmp_path / f"runs/d{depth}", depth)
    given = ["scaling-laws", "fit", tmp_path / "runs", "--out", tmp_path / "out"]
    assert "held_out is 2 of 3 sizes" in refused(*given)
    assert not (tmp_path / "out").exists()
    (tmp_path / "x.json").write_text("{}")
    assert "holds no fit" in refused(
        "scaling-laws", "predict", tmp_path / "x.json", "--params", 1e6
    )
    assert "params is 0" in refused("scaling-laws", "predict", tmp_path / "x.json")
