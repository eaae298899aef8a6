"""Chunks: made once, each by one process, and only of the same settings."""

from pathlib import Path

import numpy as np
import pytest
from accelerate import PartialState

from nextscale.errors import UsageError
from nextscale.evaluation.chunks import Chunks


def one() -> PartialState:
    """This process alone; made anew, as other tests reset what accelerate shares."""
    return PartialState(cpu=True)


def squares(part: range) -> dict[str, np.ndarray]:
    return {"squares": np.array([i * i for i in part])}


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    chunks, told = Chunks(tmp_path / "work", 10, 4, {"a": 1}, one()), []

    def interrupted(part: range) -> dict[str, np.ndarray]:
        if part.start == 8:
            raise KeyboardInterrupt
        return squares(part)

    with pytest.raises(KeyboardInterrupt):
        chunks.fill(interrupted, told.append)
    assert told == [4, 4]
    made = []

    def remembered(part: range) -> dict[str, np.ndarray]:
        made.append(part)
        return squares(part)

    again = Chunks(tmp_path / "work", 10, 4, {"a": 1}, one())
    again.fill(remembered, lambda _: None)
    assert made == [range(8, 10)]
    assert again.read("squares").tolist() == [i * i for i in range(10)]


def test_other_settings_and_other_files_are_refused(tmp_path: Path) -> None:
    Chunks(tmp_path / "work", 10, 4, {"a": 1}, one())
    with pytest.raises(UsageError, match=r"holds another evaluation \(a was 1, is 2\)"):
        Chunks(tmp_path / "work", 10, 4, {"a": 2}, one())
    with pytest.raises(UsageError, match=r"\(count was 10, is 11\)"):
        Chunks(tmp_path / "work", 11, 4, {"a": 1}, one())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").touch()
    with pytest.raises(UsageError, match="holds something else; give another --out"):
        Chunks(tmp_path / "other", 10, 4, {"a": 1}, one())
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["thesis.txt"]


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    chunks = Chunks(tmp_path / "work", 10, 4, {}, one())
    chunks.fill(squares, lambda _: None)
    chunks.place(1).write_bytes(b"cut")
    with pytest.raises(UsageError, match=r"000001.npz is damaged .*; remove it"):
        chunks.read("squares")


def test_what_a_killed_start_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/.settings.json.tmp-7").write_text('{"a":')
    chunks = Chunks(tmp_path / "work", 10, 4, {"a": 1}, one())
    chunks.fill(squares, lambda _: None)
    assert len(chunks.read("squares")) == 10
