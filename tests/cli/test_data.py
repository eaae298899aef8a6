"""`nextscale data check`: what it finds in a folder, and trainings that can be pasted."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nextscale.cli.data import runs_of
from nextscale.cli.main import main
from nextscale.cli.train import add_tokenizer_arguments, add_var_arguments
from nextscale.config.model import ModelConfig
from nextscale.config.presets import TOKENIZERS, TRANSFORMERS
from nextscale.config.run import TokenizerTraining, VarTraining
from nextscale.console.options import from_options, parser_for
from nextscale.cost.flops import transformer_flops
from nextscale.data.advice import advise
from tests.data.folders import picture, write


@pytest.fixture(autouse=True)
def _quick_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs that are known beforehand; `tests/speed` tests the estimate itself."""

    def estimate(config: Any, device: Any, advance: Any, whole: Any) -> dict[str, Any]:
        assert whole.tokenizer.image_channels in (1, 3)
        cost = {"seconds_per_image": 0.5, "memory_bytes": 2**30}
        return {"rows": [{"task": t, **cost} for t in config.tasks]}

    monkeypatch.setattr("nextscale.speed.estimate.estimate", estimate)
    monkeypatch.setattr("nextscale.machine.peaks.measure_peak", lambda *_, **__: 100e9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two uneven classes with copies, a broken file and text beside them."""
    root = write(tmp_path / "my pictures", *(f"train/a/{i}.png" for i in range(22)))
    for number in range(2):
        (root / "train/b").mkdir(exist_ok=True)
        picture(number + 50, (70, 64)).save(root / f"train/b/{number}.png")
    (root / "val/a").mkdir(parents=True)
    shutil.copy(root / "train/a/3.png", root / "val/a/same.png")
    shutil.copy(root / "train/a/4.png", root / "train/b/same.png")
    Image.open(root / "train/a/4.png").save(root / "train/a/four.bmp")
    (root / "train/a/bad.png").write_bytes(b"no picture")
    (root / "train/captions.txt").touch()
    return root


def test_what_is_found(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(folder), "--json", str(tmp_path / "r.json")]) == 0
    told = capsys.readouterr().out
    for line in (
        f"training: {folder}/train, 27 images in 2 classes, 3 (b) to 24 (a)",
        f"held out: {folder}/val, 1 image",
        "held out, no image of: b",
        f"left out in {folder}/train: 1 .txt",
        "sizes: 12x10 to 70x64, 12x10 in the median",
        "colours: all in colour",
        "duplicates (the same pixels): 2 groups, as ",
        "duplicates across training and validation: 1 group, as ",
        "duplicates across classes: 1 group, as ",
        f"cannot be read: {folder}/train/a/bad.png (it holds no picture)",
    ):
        assert line in told, line
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["training"]["classes"] == {"a": 24, "b": 3}
    assert [len(group) for group in report["duplicates"]] == [2, 3]
    assert report["imbalance"] == 8
    assert list(report["unreadable"].values()) == ["it holds no picture"]
    assert report["estimates"][0]["seconds"] == 0.5 * 27 * report["estimates"][0]["epochs"]


def test_the_commands_can_be_pasted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(folder), "--json", str(tmp_path / "r.json")]) == 0
    told = capsys.readouterr().out.splitlines()
    for command, add, kind in zip(
        json.loads((tmp_path / "r.json").read_text())["commands"],
        (add_tokenizer_arguments, add_var_arguments),
        (TokenizerTraining, VarTraining),
        strict=True,
    ):
        assert command in told
        words = shlex.split(command)
        parser = parser_for(" ".join(words[:3]), "")
        add(parser)
        run = from_options(kind, parser.parse(words[3:]))
        assert run.data.path == str(folder)
        assert run.batch_size <= 27
    assert run.tokenizer == "runs/my pictures/tokenizer"


def test_runs_never_lie_within_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs/cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert runs_of(Path("cats")) == runs_of(Path("/data/cats")) == "runs/cats"
    assert runs_of(Path("runs/cats")) == "runs/cats-runs"
    assert runs_of(Path()) == f"../{tmp_path.name}-runs"


def test_advice_follows_the_machine() -> None:
    slow, fast = (advise(14_000, 64, False, flops, flops > 1e18) for flops in (5e13, 1e19))
    assert (slow.transformer, fast.transformer) == ("d2", "d6")
    assert "muon" in fast.transformer_words()
    assert "muon" not in slow.transformer_words()
    assert slow.transformer_batch == 16
    whole = ModelConfig(TOKENIZERS[slow.tokenizer], TRANSFORMERS["d2"])
    assert slow.transformer_epochs * 14_000 * 3 * transformer_flops(whole) <= 5e13
    assert fast.transformer_batch == 64
    assert slow.tokenizer_batch == fast.tokenizer_batch == 16  # the preset's


@pytest.mark.parametrize("images", [2, 27, 200, 14_000, 2_000_000])
@pytest.mark.parametrize("side", [8, 28, 64, 300])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("flops", [1e9, 1e15, 1e22])
def test_advice_fits_the_data(images: int, side: int, grey: bool, flops: float) -> None:
    advice = advise(images, side, grey, flops, False)
    tokenizer = TOKENIZERS[advice.tokenizer]
    sides = [max(preset.image_size) for preset in TOKENIZERS.values()]
    assert max(tokenizer.image_size) <= max(side, min(sides))
    assert advice.channels == (1 if grey else 3)
    assert advice.transformer in TRANSFORMERS
    assert min(advice.tokenizer_batch, advice.transformer_batch) >= 1
    assert max(advice.tokenizer_batch, advice.transformer_batch) <= images
    assert min(advice.tokenizer_epochs, advice.transformer_epochs) >= 1
    more = advise(20 * images, side, grey, flops, False)
    assert TRANSFORMERS[more.transformer].depth >= TRANSFORMERS[advice.transformer].depth


def test_too_few_hours_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for hours, said in (("0.01", True), ("9000", False)):
        assert main(["data", "check", str(folder), "--hours", hours]) == 0
        assert (f"longer than --hours {hours}" in capsys.readouterr().out) == said


def test_grey_pictures_get_a_grey_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        Image.fromarray(np.full((70, 70), i, np.uint8)).save(tmp_path / f"{i}.png")
    assert main(["data", "check", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "colours: all grey" in told
    assert "--tokenizer.image-channels 1" in told


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "holds no images"),
        (["broken.png"], "none of the images in"),
        (["train/a/1.png", "val/b/2.png"], "has the class 'b'"),
    ],
)
def test_what_cannot_be_checked(tmp_path: Path, names: list[str], said: str, refused) -> None:
    write(tmp_path, *names)
    if "broken.png" in names:
        (tmp_path / "broken.png").write_bytes(b"")
    assert said in refused("data", "check", tmp_path)
    assert "is not a folder" in refused("data", "check", tmp_path / "nowhere")
    assert "is not a folder" in refused("data", "check", "fashion-mnist")


@pytest.mark.parametrize("names", [["a/1.png"], ["1.png", "broken.png"]])
def test_what_cannot_be_split_is_not_recommended(
    tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, *names)
    if "broken.png" in names:
        (tmp_path / "broken.png").write_bytes(b"")
    assert main(["data", "check", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "fewer than 2 images that can be read" in err
    assert "sizes: 12x10" in out
    assert "nextscale train" not in out
