"""A run goes on with the data that it began with; other data is noticed, named and recorded."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.training import runs

ONE = ["--epochs", 2, "--max-steps", 2, "--save-every", 1]
MORE = ["--epochs", 2, "--max-steps", 3, "--save-every", 1, "--resume"]


@pytest.fixture
def own(pictures: Path, tmp_path: Path) -> Path:
    """A folder that the test changes."""
    return Path(shutil.copytree(pictures, tmp_path / "own"))


def overwrite(file: Path) -> None:
    """Other pixels under the same name and in as many bytes."""
    before = file.stat()
    pixels = Image.open(file).transpose(Image.Transpose.ROTATE_180)
    pixels.save(file)
    with open(file, "ab") as padded:
        padded.write(bytes(max(0, before.st_size - file.stat().st_size)))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def test_a_renamed_class_is_refused_until_asked_for(
    own: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert runs.train("classifier", run, own, *ONE) == 0
    told = capfd.readouterr().out
    assert f"data: {own}/train, 24 images in 3 classes, 8 each" in told
    assert f"held out: 12 images in {own}/val" in told
    for part in ("train", "val"):
        (own / part / "boot").rename(own / part / "boots")
    (own / "train/bag/0.png").unlink()
    assert runs.train("classifier", run, own, *MORE) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "class boot is called boots now; 1 file (train/bag/0.png) removed" in line
    assert "--data.changed" in line
    assert runs.train("classifier", run, own, *MORE, "--data.changed") == 0
    assert "class boot is called boots now" in capfd.readouterr().out
    (noted,) = runs.log(run, "data")
    assert "class boot is called boots now" in noted["changes"][0]
    assert runs.train("classifier", run, own, *MORE) == 0  # said once, it is the run's data
    assert "changed" not in json.loads((run / "config.json").read_text())["data"]


def test_classes_of_other_numbers_are_refused_even_then(
    own: Path, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, words = tmp_path / "run", ["--tokenizer", trained, "--cache-tokens", 0]
    assert runs.train("var", run, own, *ONE, *words) == 0
    for part in ("train", "val"):
        (own / part / "bag").rename(own / part / "zip")
    capfd.readouterr()
    assert runs.train("var", run, own, *MORE, *words, "--data.changed") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "class bag is called zip now" in line
    assert "start a run with --init" in line


def test_overwritten_files_are_encoded_anew(
    own: Path, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache, words = tmp_path / "tokens", ["--tokenizer", trained, "--cache", tmp_path / "tokens"]
    assert runs.train("var", tmp_path / "run", own, *ONE, *words) == 0
    before = {path.name for path in cache.iterdir() if path.is_dir()}
    assert runs.train("var", tmp_path / "other", own, *ONE, *words) == 0
    assert {path.name for path in cache.iterdir() if path.is_dir()} == before
    overwrite(own / "train/coat/3.png")
    capfd.readouterr()
    assert runs.train("var", tmp_path / "run", own, *MORE, *words) == 2
    assert "1 file (train/coat/3.png) changed" in capfd.readouterr().err
    assert runs.train("var", tmp_path / "run", own, *MORE, *words, "--data.changed") == 0
    after = {path.name for path in cache.iterdir() if path.is_dir()}
    assert len(after) == len(before) + 1
    assert all((cache / name / "cache.json").is_file() for name in after)


def test_a_run_without_a_record_goes_on_with_one_line(
    own: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert runs.train("tokenizer", run, own, *ONE) == 0
    (run / "data.json").unlink()  # as of version 0.1
    assert runs.train("tokenizer", run, own, *MORE) == 0
    assert f"{run} has no record of its data" in capfd.readouterr().out
    assert (run / "data.json").is_file()
