"""Arrays from others: what they claim is compared with what is stored before memory is taken."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nextscale.errors import UsageError
from nextscale.machine import memory
from nextscale.storage.arrays import numbers, read_npz


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """The beginning of an array's file, which claims what it likes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def archive(place: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(place, "w", compression) as file:
        file.writestr("a.npy", content)
    return place


def test_arrays_are_read_when_called_for(tmp_path: Path) -> None:
    wanted = {"a": np.arange(6.0).reshape(2, 3), "b": np.array("text"), "c": np.array([], np.uint8)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **wanted)
        found = {name: read() for name, read in read_npz(tmp_path / "x.npz").items()}
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header((10**12,)) + b"x", r"claims \(1000000000000,\) of uint8, but 1 bytes"),
        (header((3,)) + b"x" * 9, "but 9 bytes"),
        (header((10**30, 10**30)), "claims"),
        (header((-1,)), "claims|cannot be read"),
        (header((1,), "|O") + b"x", "type object; numbers"),
        (header((1,), "<c8") + b"x" * 8, "type complex64; numbers"),
        (header((1,), "|S4") + b"x" * 4, "; numbers are needed"),
        (b"no array", "cannot be read"),
        (b"", "cannot be read"),
        (b"\x93NUMPY\x09\x00", "cannot be read"),
    ],
)
def test_what_claims_more_than_it_holds_is_one_line(
    tmp_path: Path, content: bytes, told: str
) -> None:
    read = read_npz(archive(tmp_path / "x.npz", content))["a"]
    with pytest.raises(UsageError, match=told) as caught:
        read()
    assert "x.npz: a" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_machine_has_no_memory_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compressed array of zeros takes a thousand times less room in the file."""
    monkeypatch.setattr(memory, "available", lambda: 2**16)
    content = header((2**20,)) + bytes(2**20)
    place = archive(tmp_path / "x.npz", content, zipfile.ZIP_DEFLATED)
    assert place.stat().st_size < 2**13
    with pytest.raises(UsageError, match="GiB are free"):
        read_npz(place)["a"]()


def test_memory_of_this_machine_is_known() -> None:
    left = memory.available()
    assert left is None or 2**20 < left < 2**50


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(50)])
def test_what_is_no_archive_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"truncated or no \.npz"):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([[1.0, np.nan]], "NaN or infinity"),
        ([[1.0, np.inf]], "NaN or infinity"),
        ([1.0], r"float64 \(1,\); numbers along 2 axes"),
        (np.zeros((0, 3)), r"\(0, 3\); numbers"),
        ([["text"]], "<U4"),
        ([[True]], "bool"),
    ],
)
def test_what_is_no_finite_number_is_one_line(values: object, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        numbers(lambda: np.array(values), 2, "mu")
