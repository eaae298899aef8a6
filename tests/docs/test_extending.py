"""The page on answers of one's own: its module and its commands, run with short trainings."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from nextscale.checkpoints import checkpoint
from nextscale.cli.main import main
from nextscale.config.registry import CODES, CONDITIONS, SOURCES

PAGE = (Path(__file__).parents[2] / "docs/extending.md").read_text()
(MODULE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def _shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "shapes.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("nextscale.training.monitor.measure_peak", lambda device, **_: 1e15)
    yield
    sys.modules.pop("shapes", None)
    for registry, name in ((CODES, "bits"), (CONDITIONS, "two-words"), (SOURCES, "shapes")):
        registry.homes.pop(name, None)


@pytest.mark.usefixtures("_shapes")
def test_the_page_trains_and_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in COMMANDS.splitlines():
        words = shlex.split(line.replace("--epochs 10", "--epochs 1"))
        assert words.pop(0) == "nextscale"
        assert main(words) == 0, capsys.readouterr().err
    assert len(list((tmp_path / "drawn_shapes").glob("0*.png"))) == 8
    pipe = checkpoint.load(tmp_path / "runs/shapes_var")
    assert pipe.model.head.choices == (2,) * 6
    assert pipe.read(["bright disc", None]).tolist() == [3, 6]
    vector = pipe.model.condition(torch.tensor([0, 3])).vector
    assert vector is not None
    difference = pipe.model.condition.embedding.weight[1] - pipe.model.condition.embedding.weight[0]
    torch.testing.assert_close(vector[1] - vector[0], difference)


def test_a_checkpoint_with_an_unknown_answer_is_refused(
    tmp_path: Path, saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names from a stranger's checkpoint are looked up, never imported."""
    config = (Path(saved) / "config.json").read_text()
    folder = tmp_path / "foreign"
    folder.mkdir()
    for file in Path(saved).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "config.json").write_text(config.replace('"vq"', '"os:system"'))
    assert main(["sample", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "unknown code 'os:system'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--plugin"], ["--plugin", "nothing_of_this_name", "models"]])
def test_a_plugin_that_is_missing_is_one_line(words, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "--plugin" in capsys.readouterr().err
