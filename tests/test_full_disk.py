"""A full disk is one line wherever it happens, kills no process, and leaves what was there."""

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState

from nextscale.checkpoints import checkpoint
from nextscale.cli.main import main
from nextscale.config.run import TrainingConfig
from nextscale.data.record import Record
from nextscale.data.tokens import prepare
from nextscale.errors import UsageError
from nextscale.evaluation.chunks import Chunks
from nextscale.evaluation.drawing import write_npz
from nextscale.pipeline import Pipeline
from nextscale.storage.weights import write_pickle
from nextscale.tokenizer.tokenizer import Tokenizer
from nextscale.training.directory import RunDirectory

ROOM = 2**16  # bytes
FULL = "the disk is full"


@pytest.fixture(params=["limit", "disk"])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder where no file grows beyond `ROOM`: by a limit of this process, or a small disk."""
    place = tmp_path / "full"
    place.mkdir()
    if request.param == "limit":
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
        yield place
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk, and not everywhere")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_a_checkpoint(full: Path, pipe: Pipeline) -> None:
    with pytest.raises(UsageError, match=FULL):
        checkpoint.save(pipe, full / "model")
    assert left(full) == []


def test_the_state_of_a_run_and_its_log(full: Path) -> None:
    directory = RunDirectory(full / "run", writes=True)
    directory.open("train var", TrainingConfig(out="run"), Record())
    state = {"network": {"a": torch.zeros(ROOM)}}
    with pytest.raises(UsageError, match=FULL):
        directory.save(1, lambda folder: write_pickle(state, folder / "training.pt"))
    assert left(directory.checkpoints) == []
    with pytest.raises(UsageError, match=rf"log\.jsonl .*{FULL}"):
        directory.log({"event": "x" * 2 * ROOM})
    directory.close()


def test_the_token_cache(full: Path, tokenizer: Tokenizer) -> None:
    """Its arrays are written to in memory, where a full disk is a deadly signal."""
    with pytest.raises(UsageError, match=FULL):
        prepare(full / "cache", 100_000, 2, tokenizer)
    assert not (full / "cache" / "done.npy").exists()  # what marks a whole layout


def test_samples(full: Path, saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    if os.path.ismount(full):
        (full / "filler").write_bytes(bytes(ROOM - 4096))
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))
    out = str(full / "out")
    assert main(["sample", saved, "--count", "3", "--device", "cpu", "--out", out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert FULL in line
    assert not list((full / "out").glob(".*"))


def test_an_evaluation(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    state = PartialState(cpu=True)
    chunks = Chunks(full / "chunks", 8, 8, {}, state)
    images = random.integers(0, 256, (8, 64, 64, 3), np.uint8)
    with pytest.raises(UsageError, match=rf"000000\.npz .*{FULL}"):
        chunks.fill(lambda part: {"pixels": images}, lambda images: None)
    monkeypatch.setattr(Chunks, "read_chunk", lambda *arguments: images)
    with pytest.raises(UsageError, match=rf"all\.npz.*{FULL}"):
        write_npz(chunks, np.arange(8), full / "all.npz")
    assert left(full) == ["chunks"]
    assert left(full / "chunks") == ["settings.json"]
