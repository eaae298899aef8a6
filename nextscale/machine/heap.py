"""How the C library keeps and returns the memory of this process."""

import ctypes
import os

# glibc's mallopt (malloc.h): sizes from which memory is mapped afresh, and is given back.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
M_ARENA_MAX = -8  # heaps; threads share them
KEPT = 2**30  # bytes of the largest tensor whose memory is kept


def keep_freed_memory() -> None:
    """Lets the C library keep what is freed, where it is glibc; of this process, once and for all.

    It would give large tensors back at once, and the next would come as pages that the system
    clears one by one: a fifth of the time of the decoder at 256 pixels, and of training d16. Peak
    memory grows a little.
    """
    if (library := glibc()) is not None:
        library.mallopt(M_MMAP_THRESHOLD, KEPT)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)


def share_memory() -> None:
    """Lets all threads allocate from one heap, where it is glibc; call it before they start.

    Else each keeps what it has freed from the others: a server whose threads take turns at the
    model grows by one job's memory a thread.
    """
    if (library := glibc()) is not None:
        library.mallopt(M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Returns freed memory to the system, where it is glibc; for when nothing runs for a while."""
    if (library := glibc()) is not None:
        library.malloc_trim(0)


def glibc() -> ctypes.CDLL | None:
    """The C library if it is glibc."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    return library if hasattr(library, "gnu_get_libc_version") else None
