"""The classifier learns what can be learnt, and its run resumes like the others."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextscale.judges.classifiers import load_classifier
from tests.training import runs


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright pictures with noise: two classes that anything can tell apart."""
    root = tmp_path_factory.mktemp("shades")
    generator = np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 8)):
        for name, level in (("bright", 200), ("dark", 50)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = level + generator.integers(-50, 50, (8, 8))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


def test_it_learns_and_resumes(shades: Path, tmp_path: Path) -> None:
    words = ["--epochs", 4, "--log-every", 1]
    for name, more in (("whole", []), ("parts", ["--max-steps", 5]), ("parts", ["--resume"])):
        assert runs.train("classifier", tmp_path / name, shades, *words, *more) == 0
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert runs.log(whole, "validation")[-1]["accuracy"] == 1
    runs.assert_identical(runs.last_state(parts), runs.last_state(whole))
    network = load_classifier(str(whole / "final"))
    assert network.config.labels == ("bright", "dark")
    assert network.config.data == str(shades)


@pytest.mark.parametrize("width", [4, 8])
def test_few_channels_do_not_crash_the_process(width: int, shades: Path, tmp_path: Path) -> None:
    """oneDNN's gradient of a strided 1x1 convolution in channels-last writes out of bounds."""
    narrow = ["--classifier.width", width, "--classifier.groups", 2, "--max-steps", 3]
    words = runs.train_words("classifier", tmp_path / "run", shades, *narrow)
    assert runs.exit_code(runs.start(runs.run_and_die, words, "never", 0)) == 0


def test_unlabelled_images_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for i in range(16):
        Image.new("L", (8, 8), i).save(plain / f"{i}.png")
    assert runs.train("classifier", tmp_path / "run", plain) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "has no classes; a classifier needs labelled images" in line
    assert not (tmp_path / "run").exists()
