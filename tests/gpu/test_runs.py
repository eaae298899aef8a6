"""Trainings on a GPU: resumed bit for bit, and in processes under DDP and FSDP2."""

import subprocess
import sys
from pathlib import Path

import pytest

from nextscale.storage.weights import read_tensors
from tests.gpu.conftest import DEVICE
from tests.training import runs

pytestmark = pytest.mark.gpu
OPTIONS = ("--epochs", 2, "--batch-size", 4, "--save-every", 2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_pictures(tmp_path_factory.mktemp("pictures") / "data")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    out = tmp_path_factory.mktemp("tokenizer") / "run"
    assert runs.train("tokenizer", out, pictures, "--epochs", 1) == 0
    return out / "final"


def same(first: Path, second: Path) -> bool:
    """Whether two final models hold the same bits."""
    a, b = (read_tensors(place / "final/model.safetensors") for place in (first, second))
    return all(a[name].equal(b[name]) for name in a)


def test_a_stopped_run_resumes_to_the_same_bits(
    tmp_path: Path, pictures: Path, tokenizer: Path
) -> None:
    words = ("--tokenizer", tokenizer, *OPTIONS)
    assert runs.train("var", tmp_path / "whole", pictures, *words) == 0
    assert runs.train("var", tmp_path / "parts", pictures, *words, "--max-steps", 4) == 0
    assert (
        runs.train("var", tmp_path / "parts", pictures, *words, "--resume", "--max-steps", 0) == 0
    )
    assert same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_one_process_of_torchrun_trains(
    tmp_path: Path, pictures: Path, tokenizer: Path, sharding: str
) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1"]
    launcher += ["--cpu"] if DEVICE.type == "cpu" else []
    if sharding == "fsdp":
        launcher += ["--use_fsdp", "--fsdp_version", "2"]
    words = runs.train_words("var", tmp_path / "run", pictures, "--tokenizer", tokenizer, *OPTIONS)
    done = subprocess.run(
        [*launcher, "-m", "nextscale", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run/final/model.safetensors").is_file()
