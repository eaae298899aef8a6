"""What a run remembers of its data: every change is noticed and named."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nextscale.data.images import Share
from nextscale.data.record import (
    Record,
    differences,
    joined,
    read_record,
    same_numbers,
    write_record,
)
from nextscale.errors import UsageError
from tests.data.folders import opened, picture, write

NAMES = [f"{c}/{i}.png" for c in ("apple", "bear", "cat") for i in range(6)]


def record_of(root: Path) -> Record:
    training, validation = opened(root, validation=0.25)
    return joined(Share(training, 0.5, 0).record, validation.record)


def overwrite(root: Path) -> None:
    """Other pixels under the same name, of the same size in bytes."""
    path = root / "bear/2.png"
    size, time = path.stat().st_size, path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[size // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(time, time + 1))


CHANGES: dict[str, tuple[Callable[[Path], object], list[str], bool]] = {
    "renamed": (
        lambda root: (root / "bear").rename(root / "bee"),
        ["class bear is called bee now"],
        True,
    ),
    "renamed out of order": (
        lambda root: (root / "apple").rename(root / "pear"),
        ["class apple is called pear now"],
        False,
    ),
    "class removed": (
        lambda root: shutil.rmtree(root / "cat"),
        ["1 class (cat) removed", "6 files (cat/0.png, cat/1.png, cat/2.png, …) removed"],
        False,
    ),
    "class added": (
        lambda root: write(root, "dog/1.png"),
        ["1 class (dog) added", "1 file (dog/1.png) added"],
        False,
    ),
    "added": (
        lambda root: write(root, "apple/new.png", "cat/new.png"),
        ["2 files (apple/new.png, cat/new.png) added"],
        True,
    ),
    "removed": (lambda root: (root / "cat/3.png").unlink(), ["1 file (cat/3.png) removed"], True),
    "overwritten": (overwrite, ["1 file (bear/2.png) changed"], True),
    "another size": (
        lambda root: picture(0, (20, 20)).save(root / "bear/2.png"),
        ["1 file (bear/2.png) changed"],
        True,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_named(tmp_path: Path, change: str) -> None:
    apply, told, same = CHANGES[change]
    was = record_of(write(tmp_path, *NAMES))
    assert differences(was, record_of(tmp_path)) == []
    apply(tmp_path)
    now = record_of(tmp_path)
    assert differences(was, now) == told
    assert same_numbers(was, now) is same


def test_a_copy_with_its_times_is_the_same(tmp_path: Path) -> None:
    shutil.copytree(write(tmp_path / "a", *NAMES), tmp_path / "b")
    assert differences(record_of(tmp_path / "a"), record_of(tmp_path / "b")) == []


def test_parts_keep_files_of_one_name_apart(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.png", "val/a/1.png")
    was = joined(*(source.record for source in opened(tmp_path)))
    assert sorted(was.files()) == ["train/a/1.png", "val/a/1.png"]
    picture(5).save(tmp_path / "val/a/1.png")
    now = joined(*(source.record for source in opened(tmp_path)))
    assert differences(was, now) == ["1 file (val/a/1.png) changed"]


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    root = write(tmp_path / "data", *NAMES)
    with open(os.fsencode(root) + b"/cat/\xff.png", "wb") as file:
        picture(1).save(file, "PNG")
    was = record_of(root)
    write_record(was, tmp_path / "data.json")
    again = read_record(tmp_path / "data.json")
    assert again.digest() == was.digest()
    assert differences(again, was) == []
    named = Record(("a",), pixels="fashion-mnist train 0123")
    write_record(named, tmp_path / "data.json")
    assert read_record(tmp_path / "data.json").digest() == named.digest()
    assert differences(named, was) == [
        "it was fashion-mnist train 0123, it is a folder of 19 images"
    ]


@pytest.mark.parametrize(
    "table",
    [
        [],
        {},
        {"classes": [1], "pixels": "", "files": {}},
        {"classes": None, "pixels": "", "files": {}},
        {"classes": [], "pixels": 5, "files": {}},
        {"classes": [], "pixels": "", "files": []},
        {"classes": [], "pixels": "", "files": {"a": [0, 1]}},
        {"classes": [], "pixels": "", "files": {"a": [0, 1, 10**30]}},
        {"classes": [], "pixels": "", "files": {"a": [0, 1.5, 2]}},
        {"classes": [], "pixels": "", "files": {"a": 3}},
        {"classes": [], "pixels": "", "files": {"\ud800": [0, 1, 2]}},
        {"classes": [], "pixels": "", "files": {"a\0b": ["0", 1, 2]}},
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, table: object) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps(table))
    with pytest.raises(UsageError, match=r"data\.json"):
        read_record(file)
