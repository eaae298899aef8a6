"""How much memory this machine has left, so that what cannot fit is refused before it is made."""

import os
from pathlib import Path

from nextscale.errors import UsageError


def available() -> int | None:
    """Bytes that may still be taken on a CPU; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
        return min(1024 * free, *limits())
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # all that there is
    except (AttributeError, OSError, ValueError):
        return None


def limits() -> list[int]:
    """What is left of the limit of the container that this process runs in, if it has one."""
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text())
        return [most - int((group / "memory.current").read_text())]
    except (OSError, ValueError):
        return [2**62]


def check_memory(needed: int, what: str, advice: str = "") -> None:
    """Raises UsageError if something takes more memory than the machine has left."""
    left = available()
    if left is not None and needed > left:
        sizes = f"{needed / 2**30:,.1f} GiB of memory; {left / 2**30:,.1f} GiB are free"
        raise UsageError(f"{what} would take {sizes}{advice and f'; {advice}'}")
