"""Files and directories that appear whole or not at all, written beside and renamed; JSON."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nextscale.errors import UsageError

PathLike = str | os.PathLike[str]


def cache_folder(name: str) -> Path:
    """Where this user's copies of one kind are kept that can be made again."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "nextscale" / name


@contextmanager
def replacing(directory: PathLike) -> Iterator[Path]:
    """Gives an empty folder beside `directory` to write into; afterwards it takes its place.

    What was written is on the disk before the rename. A failure removes the folder and leaves the
    directory as it was.

    Raises:
        UsageError: if the folder cannot be made.
    """
    target = Path(directory).resolve()
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    aside = target.with_name(f".{target.name}.old-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with this number
        temporary.mkdir()
    except OSError as error:
        raise UsageError(f"{target} cannot be written ({error.strerror})") from error
    try:
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            synchronize(path)
        if target.exists():
            target.rename(aside)
        try:
            temporary.rename(target)
        except OSError:
            if aside.exists():
                aside.rename(target)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    synchronize(target.parent)
    if aside.exists():
        shutil.rmtree(aside)


@contextmanager
def replacing_file(path: PathLike) -> Iterator[IO[bytes]]:
    """Gives a file beside `path` to write into; afterwards it takes its place.

    A failure removes it and leaves what stands at `path` as it was.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: PathLike, text: str) -> None:
    """Writes a text file in UTF-8, replacing one that stands there."""
    with replacing_file(path) as file:
        file.write(text.encode())


def to_json(values: Any) -> str:
    """JSON as people read it; what of a file name is not UTF-8 stands as its escape."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace").decode()


def read_json(path: PathLike) -> dict[str, Any]:
    """Reads a table of keys. Raises UsageError if the file cannot be read or holds none."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(f"{path} is truncated or not valid JSON ({error})") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds {values!r}; a table of keys is needed")
    return values


def synchronize(path: Path) -> None:
    """Waits until a file or a directory's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
