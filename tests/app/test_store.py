"""The files of a page: never rewritten, bounded, and none after the end."""

import errno
import os
import shutil

import pytest
from PIL import Image

from nextscale.app.store import BLOCK, Store
from nextscale.errors import UsageError


def test_the_oldest_files_make_room(tmp_path) -> None:
    store = Store(tmp_path, largest=3 * BLOCK)
    paths = [store.write(".bin", lambda file: file.write(b"x")) for _ in range(5)]
    assert [os.path.exists(path) for path in paths] == [False, False, True, True, True]
    os.unlink(paths[2])  # as Gradio does at an age
    large = store.write(".bin", lambda file: file.write(b"x" * 2 * BLOCK))
    assert {str(path) for path in tmp_path.iterdir()} == {paths[4], large}


def test_equal_pictures_are_different_files(tmp_path) -> None:
    paths = Store(tmp_path).pictures([Image.new("L", (2, 2))] * 2)
    assert len(set(paths)) == 2
    assert Image.open(paths[1]).size == (2, 2)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path) -> None:
    def save(file) -> None:
        file.write(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UsageError, match="No space left"):
        Store(tmp_path).write(".zip", save)
    assert not list(tmp_path.iterdir())


def test_a_closed_store_takes_nothing(tmp_path) -> None:
    store = Store(tmp_path / "page")
    store.folder.mkdir()
    store.pictures([Image.new("L", (2, 2))])
    store.close()
    shutil.rmtree(store.folder)
    with pytest.raises(UsageError, match="stopping"):
        store.pictures([Image.new("L", (2, 2))])
