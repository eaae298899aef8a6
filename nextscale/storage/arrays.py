"""Arrays of `.npz` and `.npy` files from anyone; sizes are compared before reading."""

import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from nextscale.errors import UsageError, shown
from nextscale.machine.memory import check_memory
from nextscale.storage.files import check_plain

KINDS = "biufU"  # booleans, integers, floats, texts
BROKEN = (OSError, ValueError, EOFError, TypeError, KeyError, RuntimeError, NotImplementedError)


def read_npz(path: Path) -> dict[str, Callable[[], NDArray]]:
    """The arrays of an `.npz` file by name, each read when it is called for.

    Raises:
        UsageError: here or in reading, if the file is broken, would run code, or claims more than
            it holds or than the machine has memory for.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (*BROKEN, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is truncated or no .npz file") from error
    return {name: lambda name=name: read_array(path, name) for name in names}


def read_array(path: Path, name: str) -> NDArray:
    """One array of an `.npz` file. Raises UsageError as `read_npz`."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = name if name in archive.namelist() else f"{name}.npy"
            check_header(archive, member, f"{path}: {name}")
            with archive.open(member) as file:
                return npy.read_array(file, allow_pickle=False)
    except UsageError:
        raise
    except (*BROKEN, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise UsageError(f"{path}: {name} cannot be read ({shown(str(error))})") from error


def check_header(archive: zipfile.ZipFile, member: str, where: str) -> None:
    """Raises UsageError unless an array is of plain values, as many as are stored of it."""
    with archive.open(member) as file:
        shape, _, dtype = read_header(file)
        stored = archive.getinfo(member).file_size - file.tell()
    if dtype.kind not in KINDS:
        raise UsageError(f"{where} holds values of type {dtype}; numbers are needed")
    needed = math.prod(shape) * dtype.itemsize
    if needed != stored:
        raise UsageError(
            f"{where} claims {shape} of {dtype}, but {stored:,} bytes are stored of it"
        )
    check_memory(needed, where)


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape of an array in an open file, whether its first axis varies fastest, and its type.

    Raises:
        ValueError, or another of `BROKEN`: if the file does not begin as NumPy's do.
    """
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        return read(file)
    except (TokenError, MemoryError) as error:  # of Python's parser, at thousands of brackets
        raise ValueError("its header cannot be parsed") from error


def map_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray:
    """Maps an `.npy` file into memory, to be read.

    Raises:
        UsageError: if it is a link or no plain file, is broken, or holds another shape or type.
    """
    check_plain(path)
    try:
        with path.open("rb") as file:
            found, transposed, kind = read_header(file)
            stored = os.fstat(file.fileno()).st_size - file.tell()
    except BROKEN as error:
        raise UsageError(f"{path} is truncated or no .npy file ({shown(str(error))})") from error
    if found != shape or kind != dtype or transposed:
        raise UsageError(f"{path} holds {kind} {found}; {np.dtype(dtype)} {shape} is needed")
    if stored != math.prod(shape) * kind.itemsize:
        raise UsageError(f"{path} claims {kind} {shape}, but {stored:,} bytes are stored of it")
    return np.load(path, mmap_mode="r")


def numbers(read: Callable[[], NDArray], axes: int, where: str) -> NDArray:
    """An array of finite numbers, not an empty one. Raises UsageError at anything else."""
    values = read()
    if values.dtype.kind not in "iuf" or values.ndim != axes or values.size == 0:
        raise UsageError(
            f"{where} is {values.dtype} {values.shape}; numbers along {axes} axes are needed"
        )
    if not np.isfinite(values).all():
        raise UsageError(f"{where} holds NaN or infinity")
    return values
