"""What is written appears whole or not at all."""

from pathlib import Path

import pytest

from nextscale.errors import UsageError
from nextscale.files import read_json, replacing, replacing_file, write_text


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


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "folder"
    for text in ("old", "new"):
        with replacing(place) as folder:
            (folder / text).write_text(text)
            assert not (place / text).exists()
    assert names(place) == ["new"]
    assert names(tmp_path) == ["folder"]


def test_a_failure_leaves_the_old_directory(tmp_path: Path) -> None:
    place = tmp_path / "folder"
    with replacing(place) as folder:
        (folder / "old").write_text("old")

    def write() -> None:
        with replacing(place) as folder:
            (folder / "new").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert names(place) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_a_place_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"), replacing(tmp_path / "file" / "in"):
        pytest.fail("entered")


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot be read"), (b"{", "truncated"), (b"\xff", "truncated"), (b"[]", "a table")],
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
