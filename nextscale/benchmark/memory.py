"""Peak memory of some work, in a process of its own, where nothing else was ever in memory."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import torch

from nextscale.complexity import peak_memory
from nextscale.errors import UsageError


def peak_alone(work: Callable[..., None], device: torch.device, *given: Any) -> dict[str, int]:
    """Bytes before a new process works, and at most.

    Args:
        work: a function of a module, called with the device's name and what is given.

    Raises:
        UsageError: if the process was killed.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        try:
            return alone.submit(peak_here, work, str(device), *given).result()
        except BrokenProcessPool as error:
            raise UsageError(
                "the process that measures memory was killed, most likely because memory ran out; "
                "take a smaller model or batch, or leave it out with --no-memory"
            ) from error


def peak_here(work: Callable[..., None], device: str, *given: Any) -> dict[str, int]:
    """Returns what `peak_alone` does, of this process."""
    before = peak_memory(torch.device(device))
    work(device, *given)
    return {
        "memory_before_bytes": before,
        "peak_memory_bytes": peak_memory(torch.device(device)),
    }
