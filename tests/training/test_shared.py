"""A run's directory that comes from others leads nowhere else, and foreign files in it stay."""

import json
from pathlib import Path

import pytest

from nextscale.cli.main import main
from nextscale.config.run import TrainingConfig
from nextscale.data.record import Record
from nextscale.errors import UsageError
from nextscale.training.directory import RunDirectory
from nextscale.training.log import read_log
from tests.training import runs

LINKS = (
    "final", "best", "checkpoints", "checkpoints/step-00000001", "config.json", "log.jsonl",
    ".lock", "checkpoints/step-00000001/training.pt",
)  # fmt: skip


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A directory that must stay as it is."""
    place = tmp_path / "others"
    place.mkdir()
    (place / "precious.txt").write_text("{}")
    return place


@pytest.mark.parametrize("name", LINKS)
def test_a_link_in_a_run_is_refused(
    name: str, others: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "run" / name
    place.parent.mkdir(parents=True)
    place.symlink_to(others if "." not in place.name else others / "precious.txt")
    before = sorted(tmp_path.rglob("*"))
    assert main(runs.train_words("tokenizer", tmp_path / "run", pictures, "--resume")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is a symbolic link" in line
    assert sorted(tmp_path.rglob("*")) == before
    assert (others / "precious.txt").read_text() == "{}"


def test_the_run_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "large disk")
    directory = RunDirectory(tmp_path / "run", writes=True)
    assert directory.open("train tokenizer", TrainingConfig(out="run"), Record()) is None
    directory.save(1, write_checkpoint)
    directory.close()
    assert (tmp_path / "large disk" / "checkpoints" / "step-00000001" / "training.pt").exists()


def write_checkpoint(folder: Path) -> None:
    for name in ("config.json", "tokenizer.safetensors", "training.pt"):
        (folder / name).write_text("{}")


def test_foreign_files_in_checkpoints_stay(others: Path, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run", writes=True)
    directory.open("train tokenizer", TrainingConfig(out="run"), Record())
    directory.save(1, write_checkpoint)
    (directory.place(1) / "notes.txt").write_text("precious")
    for step in (2, 3):
        directory.save(step, write_checkpoint)
        directory.forget(keep=1, best=-1)
    directory.close()
    kept = ["step-00000001", "step-00000003"]
    assert sorted(path.name for path in directory.checkpoints.iterdir()) == kept
    assert (directory.place(1) / "notes.txt").read_text() == "precious"


def test_a_final_model_with_foreign_files_is_refused(tmp_path: Path) -> None:
    final = tmp_path / "run" / "final"
    final.mkdir(parents=True)
    (final / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        RunDirectory(tmp_path / "run", writes=True).check(
            "train var", TrainingConfig(out="run"), Record()
        )


def test_leftovers_of_killed_writers_are_restored_or_swept(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run", writes=True)
    names = (".step-00000001.tmp-999999999", ".step-00000002.old-elsewhere-1", ".notes")
    for name in names:
        (directory.checkpoints / name).mkdir(parents=True)
    (tmp_path / "run" / ".final.old-999999999").mkdir()
    (tmp_path / "run" / "config.json").write_text(
        json.dumps(RunDirectory(tmp_path / "none", True).check("c", TrainingConfig(), Record()))
    )
    directory.open("c", TrainingConfig(resume=True), Record())
    directory.close()
    found = sorted(path.name for path in directory.checkpoints.iterdir())
    assert found == [".notes", "step-00000002"]  # no other writer holds the lock
    assert directory.final.is_dir()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b'{"step": 1}\n5\n', "line 2, is 5; a table"),
        (b'{"step": -1}\n', "line 1: step is -1"),
        (b'{"step": "x"}\n', "step is 'x'"),
        (b'{"step": 1e30}\n', r"step is 1e\+30"),
        (b"\xff\xfe\n", "no text in UTF-8"),
    ],
)
def test_a_log_that_is_none_is_one_line(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / "log.jsonl").write_bytes(text)
    with pytest.raises(UsageError, match=told):
        read_log(tmp_path / "log.jsonl")


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1}]
