"""What cannot fit into the machine's memory is refused in one line, before it is made."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from nextscale.checkpoints import checkpoint
from nextscale.cli.main import main
from nextscale.cost.room import drawing_bytes
from nextscale.editing.candidates import Attempt, best_of
from nextscale.errors import UsageError
from nextscale.generation.rejection import candidates
from nextscale.machine import memory
from nextscale.models.model import build_model
from nextscale.pipeline import Pipeline
from nextscale.speed.estimate import sampling_needs

LEFT = 2**20  # bytes that a machine has left
HELD = "--count 3 --batch 9 --keep 0.0001 --classifier {classifier}"
LINES = {  # what is refused: words of the command
    "sampling 900 images at once": "sample {model} --count 900 --batch 900 --out out",
    "the record of 5,000 images": "sample {model} --count 5000 --out out",
    "30,000 pictures in memory": f"sample {{model}} {HELD} --out out",
    "encoding 600 pictures at once": "reconstruct {model} {pictures} --batch 600 --out out",
    "600 pictures": "edit vary {model} {pictures} --keep-scales 1 --batch 600 --out out",
    "900 candidates of 3 images": "edit vary {model} {few} --candidates 900 --keep-scales 1 "
    "--out out",
    "sampling 9,000 images": "evaluate {model} --count 9000 --batch 9000 --reference {few} "
    "--extractor {classifier} --metrics fid --out out",
    "the features of 90,000 images": "evaluate {model} --count 90000 --batch 9 --reference {few} "
    "--extractor {classifier} --metrics fid --no-bounds --out out",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, saved: str, classifier: str) -> dict[str, str]:
    """What the lines name: models, a folder of many pictures and one of a few."""
    folder = tmp_path_factory.mktemp("places")
    for name, count in (("pictures", 600), ("few", 3)):
        (folder / name).mkdir()
        for i in range(count):
            Image.new("L", (8, 8), i % 256).save(folder / name / f"{i}.png")
    given = {name: str(folder / name) for name in ("pictures", "few")}
    return {**given, "model": saved, "classifier": classifier}


@pytest.mark.parametrize("said", LINES)
def test_a_command_without_memory_is_one_line(
    said: str,
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(memory, "available", lambda: LEFT)
    assert main([*LINES[said].format(**places).split(), "--device", "cpu"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert said in line
    assert "GiB are free" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["tiny", "fashion-mnist"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bound_is_below_what_drawing_takes(name: str, precision: str, saved: str) -> None:
    """So nothing that fits is refused; and not far below."""
    config = checkpoint.config_of(saved if name == "tiny" else name)
    guided = bool(config.sampling.cfg)
    taken = sampling_needs(config, precision)
    each = (taken(2000)["tensor_bytes"] - taken(1000)["tensor_bytes"]) / 1000
    with torch.device("meta"):
        model = build_model(config.model, config.tokenizer).to(getattr(torch, precision))
    bound = drawing_bytes(model, 1, guided)
    assert bound <= each < 4 * bound
    assert drawing_bytes(model, 1, True) == 2 * drawing_bytes(model, 1, False)


def test_a_batch_of_the_api_is_refused(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    one = drawing_bytes(pipe.model, 1, False)
    monkeypatch.setattr(memory, "available", lambda: 5 * one)
    assert len(pipe.sample([None] * 5, batch=5, cfg=0.0)) == 5
    with pytest.raises(UsageError, match=r"6 images at once.*smaller batch"):
        pipe.sample([None] * 6, batch=6, cfg=0.0)
    assert len(pipe.sample([None] * 6, batch=3, cfg=0.0)) == 6


def test_candidates_are_drawn_once_before_they_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: LEFT)
    asked = []

    def draw(seeds: object) -> Attempt:
        asked.append(seeds)
        return Attempt(torch.zeros(2, 3, 64, 64), torch.zeros(2))

    with pytest.raises(UsageError, match="900 candidates of 2 images"):
        best_of(draw, 900, [0, 1])
    assert len(asked) == 1


def test_more_draws_than_a_command_makes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"keep is 1e-09.*3,000,000,000 images for 3"):
        candidates([0, 1, 2], 1e-9)
