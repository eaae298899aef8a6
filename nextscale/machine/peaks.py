"""What the machine reaches: FLOP/s of matrix products, and peak memory of some work."""

import platform
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from nextscale.errors import UsageError

# Products whose better rate is called the peak: (m, k, n).
PEAK_PRODUCTS = ((2048, 2048, 2048), (512, 1024, 4096))
QUICK_PRODUCT = (512, 1024, 2048)  # of a rate that is needed at once
LARGE_PRODUCT = (8192, 8192, 8192)  # of an accelerator, which the others leave mostly waiting


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


def processor() -> str:
    """The processor's name, from the operating system."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = dict(line.rstrip().split("\t: ", 1) for line in file if "\t: " in line)
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return lines.get("model name", platform.machine())


def measure_peak(
    device: torch.device,
    repeats: int = 5,
    products: Sequence[tuple[int, int, int]] = PEAK_PRODUCTS,
    dtype: torch.dtype = torch.float32,
) -> float:
    """FLOP/s of the best matrix product on this device, right now."""
    best = 0.0
    products = products if device.type == "cpu" else (*products, LARGE_PRODUCT)
    for m, k, n in products:
        a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((m, k), (k, n)))
        for i in range(repeats + 1):
            start = time.perf_counter()
            product = a @ b
            product[0, 0].item()  # waits for the device
            if i > 0:  # the first call warms up
                best = max(best, 2 * m * k * n / (time.perf_counter() - start))
    return best


def peak_memory(device: torch.device) -> int:
    """Largest memory in bytes so far: of the device, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # rusage would begin with the peak of the process that started this one
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
