"""What is written appears whole or not at all."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nextscale.errors import UsageError
from nextscale.storage.files import (
    append_text,
    beside,
    check_all_plain,
    read_json,
    read_text,
    recover,
    remove_whole,
    replacing,
    replacing_file,
    write_text,
)
from nextscale.storage.weights import write_pickle, write_tensors

FILES = ("config.json", "model")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "file"
    write_text(place, "old")
    with replacing_file(place) as file:
        file.write(b"new")
        file.flush()
        assert place.read_text() == "old"
    assert place.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    place = tmp_path / "file"
    write_text(place, "old")

    def write() -> None:
        with replacing_file(place) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert place.read_text() == "old"
    assert names(tmp_path) == ["file"]


def write_folder(place: Path, text: str) -> None:
    with replacing(place, FILES) as folder:
        for name in FILES:
            (folder / name).write_text(text)


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "folder"
    write_folder(place, "old")
    with replacing(place, FILES) as folder:
        (folder / "config.json").write_text("new")
        assert (place / "config.json").read_text() == "old"
    assert names(place) == ["config.json"]
    assert names(tmp_path) == ["folder"]


def test_a_failure_leaves_the_old_directory(tmp_path: Path) -> None:
    place = tmp_path / "folder"
    write_folder(place, "old")

    def write() -> None:
        with replacing(place, FILES) as folder:
            (folder / "config.json").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert names(place) == sorted(FILES)
    assert names(tmp_path) == ["folder"]


# What belongs to others


def precious(folder: Path) -> Path:
    """A directory that must stay as it is."""
    folder.mkdir()
    (folder / "precious.txt").write_text("precious")
    return folder


def test_nothing_is_replaced_through_a_link(tmp_path: Path) -> None:
    place = precious(tmp_path / "others")
    (tmp_path / "final").symlink_to(place)
    with pytest.raises(UsageError, match="symbolic link"):
        write_folder(tmp_path / "final", "new")
    (tmp_path / "log").symlink_to(place / "precious.txt")
    for write in (write_text, append_text):
        with pytest.raises(UsageError, match="symbolic link"):
            write(tmp_path / "log", "new")
    assert (place / "precious.txt").read_text() == "precious"
    assert names(place) == ["precious.txt"]


def test_a_link_in_the_place_of_a_temporary_is_not_followed(tmp_path: Path) -> None:
    place = precious(tmp_path / "others") / "precious.txt"
    beside(tmp_path / "file", "tmp").symlink_to(place)
    write_text(tmp_path / "file", "new")
    beside(tmp_path / "folder", "tmp").symlink_to(place.parent)
    write_folder(tmp_path / "folder", "new")
    assert place.read_text() == "precious"
    assert names(tmp_path) == ["file", "folder", "others"]


@pytest.mark.parametrize("foreign", ["file", "folder", "link", "alone"])
def test_foreign_files_are_neither_replaced_nor_removed(tmp_path: Path, foreign: str) -> None:
    place = tmp_path / "folder"
    if foreign != "alone":
        write_folder(place, "old")
        (place / "model").unlink()
    if foreign == "file":
        (place / "notes.txt").write_text("precious")
    elif foreign == "folder":
        precious(place / "model")  # of the right name
    elif foreign == "link":
        (place / "model").symlink_to(tmp_path)
    else:
        place.mkdir()
        (place / "config.json").write_text("{}")  # as other programs have one
    before = names(place)
    with pytest.raises(UsageError, match="give a new directory"):
        write_folder(place, "new")
    assert names(place) == before
    assert names(tmp_path) == ["folder"]


def test_a_link_anywhere_in_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    check_all_plain(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step-1").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="step-1 is a symbolic link"):
        check_all_plain(tmp_path / "run")


def test_a_pipe_in_a_run_is_named_before_anything_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(UsageError, match="jsonl is a pipe"):
        check_all_plain(tmp_path)


def test_a_device_is_written_to_and_stays_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


# Killed writers


KILLED = """
import os, signal, sys
from pathlib import Path
from nextscale.storage import files
if sys.argv[2] != "exchanged":
    files.exchange = lambda one, other: False
rename, die = Path.rename, lambda: os.kill(os.getpid(), signal.SIGKILL)
def killed(source, target):
    if ".tmp-" in source.name and sys.argv[2] == "between":
        die()
    return rename(source, target)
Path.rename = killed
with files.replacing(sys.argv[1], ("a", "b")) as folder:
    for name in ("a", "b"):
        (folder / name).write_text("new")
    if sys.argv[2] == "writing":
        die()
"""


def kill(place: Path, when: str) -> None:
    """Replaces a directory in a process that is killed meanwhile."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(place), when], check=False)
    assert done.returncode == (0 if when == "exchanged" else -signal.SIGKILL)


@pytest.mark.parametrize("when", ["writing", "between", "exchanged"])
def test_a_kill_leaves_one_whole_directory(tmp_path: Path, when: str) -> None:
    place = tmp_path / "model"
    place.mkdir()
    for name in ("a", "b"):
        (place / name).write_text("old")
    kill(place, when)
    assert place.exists() == (when != "between")  # missing where the system cannot exchange
    recover(place)
    wanted = "new" if when == "exchanged" else "old"
    assert [(place / name).read_text() for name in ("a", "b")] == [wanted] * 2
    assert names(tmp_path) == ["model"]


def test_what_others_write_now_stays(tmp_path: Path) -> None:
    living = [tmp_path / f".model.tmp-{os.getppid()}", tmp_path / ".model.tmp-elsewhere-999999999"]
    dead = [tmp_path / ".model.tmp-999999999", tmp_path / ".model.old-999999999"]
    other = tmp_path / ".model.tmp-notes"
    for folder in (*living, *dead, other):
        folder.mkdir()
    write_folder(tmp_path / "model", "new")
    assert names(tmp_path) == sorted(["model", other.name, *(path.name for path in living)])
    recover(tmp_path / "model", locked=True)
    assert names(tmp_path) == [other.name, "model"]


# The disk and the umask


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_and_leaves_the_old(tmp_path: Path, number: int) -> None:
    write_folder(tmp_path / "folder", "old")
    write_text(tmp_path / "file", "old")

    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(UsageError, match="folder cannot be written: the disk is full"):
        fill_folder(tmp_path / "folder", fail)
    with pytest.raises(UsageError, match="file cannot be written: the disk is full"):
        fill_file(tmp_path / "file", fail)
    assert (tmp_path / "folder" / "config.json").read_text() == "old"
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file", "folder"]


def fill_folder(place: Path, write: Callable[..., None]) -> None:
    with replacing(place, FILES) as folder:
        write(folder)


def fill_file(place: Path, write: Callable[..., None]) -> None:
    with replacing_file(place) as file:
        write(file)


def test_what_is_written_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    was = os.umask(0o027)
    try:
        with replacing(tmp_path / "model", ("config.json", "tensors", "pickle")) as folder:
            write_tensors({"a": torch.zeros(2)}, folder / "tensors")
            write_pickle({"a": torch.zeros(2)}, folder / "pickle")
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(was)
    files = [tmp_path / "file", *(tmp_path / "model").iterdir()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o640}
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o750


def test_a_place_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(UsageError, match="cannot be written"),
        replacing(tmp_path / "file" / "in", FILES),
    ):
        pytest.fail("entered")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        (b"{", "truncated"),
        (b"\xff", "no text in UTF-8"),
        (b"[]", "a table"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_table_is_one_line(
    content: bytes | None, told: str, tmp_path: Path
) -> None:
    place = tmp_path / "file"
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(UsageError, match=told):
        read_json(place)
    write_text(place, '{"a": 1}')
    assert read_json(place) == {"a": 1}


def test_text_from_others_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("φ".encode() * 3)
    assert read_text(tmp_path / "file", most=6) == "φφφ"
    with pytest.raises(UsageError, match="more than 5 bytes"):
        read_text(tmp_path / "file", most=5)
    os.mkfifo(tmp_path / "pipe")  # which nobody ever writes to
    for place in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(UsageError, match="no plain file"):
            read_text(place)


def test_a_directory_is_removed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "model", "old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_whole(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    recover(tmp_path / "model")
    assert names(tmp_path) == []
