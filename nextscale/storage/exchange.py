"""Exchanges two directory entries in one step where the system can (Linux's renameat2)."""

import ctypes
import errno
import os
from pathlib import Path

RENAME_EXCHANGE = 2  # linux/fs.h
AT_FDCWD = -100  # fcntl.h: paths are relative to the working directory
# How kernels, C libraries and file systems without it answer.
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two entries of one file system; no process ever finds either of them missing.

    Returns:
        whether the system can; if not, nothing has changed.

    Raises:
        OSError: if it can in general and fails here.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name != "nt" else 0
    if not rename:
        return False
    paths = [os.fsencode(path) for path in (one, other)]
    if rename(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
