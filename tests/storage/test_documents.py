"""YAML from others: what it stands for is bounded, and what is no table is one line."""

import os
from pathlib import Path

import pytest

from nextscale.errors import UsageError
from nextscale.storage.documents import parse_document, read_document

LEVELS = "bcdefghi"
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("a" + LEVELS, LEVELS, strict=False)
)  # 350 bytes that stand for a thousand million numbers


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "aliases that stand for more than"),
        ("a: &a [*a]", "holds itself"),
        ("a: " + "[" * 100_000, "nested deeper than 64"),
        ("a: " + "[" * 99 + "]" * 99, "nested deeper than 64"),
        ("a: " + "9" * 5000, "5000 digits"),
        ("a: 2020-99-99", "month must be"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !!binary x", "base64"),
        ("? [a]\n: b", "unhashable"),
        ("a: 1\n---\nb: 2", "another document"),
        ("- a", r"holds \['a'\]; a table"),
        ("", "holds nothing; a table"),
        ("a: [", "no YAML"),
    ],
)
def test_what_is_no_table_of_options_is_one_line(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        parse_document(text, "given.yaml")
    assert "given.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_aliases_and_merges_are_read() -> None:
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a"
    assert parse_document(text, "f") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}}


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"\xff", "no text in UTF-8"), (b"a: " + b"x" * 2**20, "more than 1,048,576 bytes")],
)
def test_what_is_no_text_of_options_is_one_line(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(UsageError, match=told):
        read_document(tmp_path / "f")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for place, told in ((tmp_path, "directory"), (tmp_path / "f", "No such"), ("a\0", "no path")):
        with pytest.raises(UsageError, match=told):
            read_document(place)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"a: 1")
    os.close(writer)
    assert read_document(f"/dev/fd/{reader}") == "a: 1"
    os.close(reader)
