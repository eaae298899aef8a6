"""Files and directories that appear whole or not at all, written beside and renamed; JSON.

Nothing is replaced or removed through a symbolic link, and nothing foreign is removed at all.
"""

import errno
import json
import os
import platform
import re
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nextscale.errors import UsageError, shown
from nextscale.storage.exchange import exchange

PathLike = str | os.PathLike[str]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room on the disk, in the quota, in a file
LARGEST_JSON = 2**28  # bytes; a log of a long run is smaller
HERE = re.sub(r"\W", "", platform.node())[:32]  # whose process numbers these are


def cache_folder(name: str) -> Path:
    """Where this user's copies of one kind are kept that can be made again."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "nextscale" / name


@contextmanager
def replacing(directory: PathLike, files: Collection[str]) -> Iterator[Path]:
    """Gives an empty folder beside `directory` to write into; afterwards it takes its place.

    What was written is on the disk before it appears. A failure removes the folder and leaves the
    directory as it was. What killed writers left behind is restored or removed.

    Args:
        files: names that a directory may hold which is replaced.

    Raises:
        UsageError: if the folder cannot be made, the disk is full, or the directory is a link or
            holds anything else.
    """
    target = Path(os.path.abspath(directory))  # resolves no link
    temporary, aside = (beside(target, kind) for kind in ("tmp", "old"))
    check_replaceable(target, files)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        remove_tree(temporary)
        temporary.mkdir()
    except OSError as error:
        raise UsageError(f"{target} cannot be written ({error.strerror})") from error
    try:
        with disk_errors(target):
            yield temporary
            for path in [*temporary.rglob("*"), temporary]:
                synchronize(path)
        check_replaceable(target, files)
        put_in_place(temporary, target, aside)
    except BaseException:
        remove_tree(temporary)
        raise
    synchronize(target.parent)
    remove_tree(temporary)
    remove_tree(aside)


def put_in_place(temporary: Path, target: Path, aside: Path) -> None:
    """Makes a folder the target; one that stands there is then at `temporary` or `aside`.

    Where the system cannot exchange directories, the target is missing for a moment; a process that
    is killed then leaves the old one at `aside`, from where `recover` restores it.
    """
    if not target.exists():
        temporary.rename(target)
    elif not exchange(temporary, target):
        target.rename(aside)
        try:
            temporary.rename(target)
        except OSError:
            aside.rename(target)
            raise


@contextmanager
def replacing_file(path: PathLike) -> Iterator[IO[bytes]]:
    """Gives a file beside `path` to write into; afterwards it takes its place.

    A failure removes it and leaves what stands at `path` as it was. A device or a pipe
    (`/dev/stdout`) is written to as it is.

    Raises:
        UsageError: if the path is a link to a file, or the disk is full.
    """
    target = Path(path)
    if target.exists() and not (target.is_file() or target.is_dir()):
        with target.open("wb") as file:
            yield file
        return
    check_no_link(target)
    temporary = beside(target, "tmp")
    try:
        with disk_errors(target):
            temporary.unlink(missing_ok=True)
            with temporary.open("xb") as file:  # a link that someone put there is not followed
                yield file
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: PathLike, text: str) -> None:
    """Writes a text file in UTF-8, replacing one that stands there."""
    with replacing_file(path) as file:
        file.write(text.encode())


def append_text(path: PathLike, text: str) -> None:
    """Adds to a text file in UTF-8. Raises UsageError if it is a link or the disk is full."""
    check_no_link(Path(path))
    with disk_errors(path), Path(path).open("a", encoding="utf-8") as file:
        file.write(text)


def reserve(path: PathLike) -> None:
    """Takes room on the disk for a file of holes, which is then written to in memory.

    A write to a hole on a full disk kills the process; here it is an error.

    Raises:
        UsageError: if the disk is full.
    """
    with disk_errors(path), open(path, "rb+") as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, max(1, os.fstat(file.fileno()).st_size))


@contextmanager
def disk_errors(place: PathLike) -> Iterator[None]:
    """Turns the complaint of a full disk into a UsageError that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UsageError(f"{place} cannot be written: {disk_full(error)}") from error


def disk_full(error: OSError) -> str:
    """The complaint of a full disk, as every command says it."""
    return f"the disk is full ({error.strerror}); free some space and run this again"


def check_no_link(path: Path) -> None:
    """Raises UsageError if a path is a symbolic link, which nothing here writes through."""
    if path.is_symlink():
        raise UsageError(
            f"{path} is a symbolic link to {os.readlink(path)}; nothing is written or removed "
            "through one: remove the link, or give the place itself"
        )


def check_plain(path: Path) -> None:
    """Raises UsageError unless a path is a plain file itself, not a link to one."""
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is {'a link' if stat.S_ISLNK(mode) else 'no plain file'}")


def check_all_plain(folder: Path) -> None:
    """Raises UsageError at what is no file and no folder, below a folder that may be a link.

    A link leads to another place, and a pipe or a device would be waited for without an end.
    """
    for place, folders, files in os.walk(folder):
        for path in (Path(place) / name for name in (*folders, *files)):
            check_no_link(path)
            if not (path.is_file() or path.is_dir()):
                raise UsageError(f"{path} is a pipe, a socket or a device; remove it")


def check_replaceable(target: Path, files: Collection[str]) -> None:
    """Raises UsageError unless nothing but an empty directory or these files would be replaced.

    Args:
        files: that are ours. A directory with `config.json` alone may be another program's.
    """
    check_no_link(target)
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; give a directory for the checkpoint")
    if not is_ours(target, files):
        held = sorted(entry.name for entry in listed(target))
        raise UsageError(
            f"{target} is not empty and not a checkpoint alone; it holds "
            f"{', '.join(map(shown, held[:4]))}; give a new directory"
        )


def is_ours(folder: Path, files: Collection[str]) -> bool:
    """Whether a folder is empty or not there, or holds plain files of these names, two or more."""
    entries = listed(folder)
    plain = all(entry.is_file() and not entry.is_symlink() for entry in entries)
    return not entries or (plain and len(entries) > 1 and {e.name for e in entries} <= set(files))


def listed(folder: Path) -> list[Path]:
    """What is in a folder; nothing if there is none, or it is something else."""
    return list(folder.iterdir()) if folder.is_dir() else []


def beside(target: Path, kind: str) -> Path:
    """Where this process writes (`tmp`) or keeps what it replaces (`old`)."""
    return target.with_name(f".{target.name}.{kind}-{HERE}-{os.getpid()}")


def recover(target: Path, locked: bool = False) -> None:
    """Restores a directory whose writer was killed in between, and removes what killed ones left.

    Args:
        locked: a lock keeps other writers away. Without one, what living processes write stays, and
            what other machines, which may share the disk, wrote.
    """
    recover_all(target.parent, re.escape(target.name), locked)


def recover_all(folder: Path, names: str, locked: bool = False) -> None:
    """Recovers every file and directory of these names in a folder; see `recover`.

    Args:
        names: a regular expression without groups.
    """
    pattern = re.compile(rf"\.({names})\.(tmp|old)-(?:(\w+)-)?(\d+)")
    for entry in sorted(listed(folder)):
        found = pattern.fullmatch(entry.name)
        if found is None or entry.is_symlink():
            continue
        name, kind, host, process = found.groups()
        if not locked and (host not in (None, HERE) or alive(int(process))):
            continue
        if kind == "old" and not (folder / name).exists() and entry.is_dir():
            entry.rename(folder / name)
        else:
            remove_tree(entry)


def alive(process: int) -> bool:
    """Whether a process of this number may run on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process != os.getpid()  # one that had this number before has ended


def remove_whole(folder: Path) -> None:
    """Removes a directory whole or not at all; `recover` removes what a killed process leaves."""
    temporary = beside(folder, "tmp")
    remove_tree(temporary)
    folder.rename(temporary)
    remove_tree(temporary)


def remove_tree(folder: Path) -> None:
    """Removes a folder or a file, if it is there; a link alone, not what it names."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


def read_text(path: PathLike, most: int = LARGEST_JSON, pipes: bool = False) -> str:
    """Reads a text file in UTF-8 that may come from anyone.

    Args:
        most: bytes that the file may hold.
        pipes: whether a pipe, which is read only once, is as good as a plain file.

    Raises:
        UsageError: if it cannot be read, is no plain file, is too large, or is not UTF-8.
    """
    try:
        plain = pipes or stat.S_ISREG(os.stat(path).st_mode)
        content = read_up_to(path, most + 1) if plain else b""
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:  # a NUL in the path
        raise UsageError(f"{shown(str(path))} is no path ({error})") from error
    if not plain:
        raise UsageError(f"{path} is no plain file; give one")
    if len(content) > most:
        raise UsageError(f"{path} has more than {most:,} bytes; give a smaller file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8 ({error})") from error


def read_up_to(path: PathLike, count: int) -> bytes:
    """The first bytes of a file, at most `count`."""
    with open(path, "rb") as file:
        return file.read(count)


def to_json(values: Any) -> str:
    """JSON as people read it; what of a file name is not UTF-8 stands as its escape."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace").decode()


def read_json(path: PathLike) -> dict[str, Any]:
    """Reads a table of keys. Raises UsageError if the file cannot be read or holds none."""
    try:
        values = parse_json(read_text(path))
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} is truncated or not valid JSON ({error})") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds {shown(values)}; a table of keys is needed")
    return values


def parse_json(text: str) -> Any:
    """Reads JSON. Raises ValueError if it is none, or nested deeper than Python reads."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def synchronize(path: Path) -> None:
    """Waits until a file or a directory's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
