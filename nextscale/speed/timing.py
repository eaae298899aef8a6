"""Seconds of things that are measured in turn, so that all meet the same machine."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from nextscale.machine.instructions import made_for
from nextscale.machine.peaks import measure_peak, processor

K = TypeVar("K", bound=Hashable)
Parts = dict[str, float]  # seconds by the name of what took them


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one part.

    Attributes:
        seconds: of each repeat.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds in the middle."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance from the least to the most, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def in_turn(
    measured: Mapping[K, Callable[[], Parts]], repeats: int, advance: Callable[[int], None]
) -> dict[K, dict[str, Timing]]:
    """Measures each thing once a round, after a round that warms up and does not count.

    Args:
        measured: by name, what runs a thing and gives the seconds of its parts.
        repeats: rounds.
        advance: receives 1 after each run.
    """
    found: dict[K, list[Parts]] = {name: [] for name in measured}
    for number in range(repeats + 1):
        for name, function in measured.items():
            parts = function()
            if number > 0:
                found[name].append(parts)
            advance(1)
    return {
        name: {part: Timing(tuple(run[part] for run in runs)) for part in runs[0]}
        for name, runs in found.items()
    }


def stopwatch(device: torch.device) -> float:
    """Seconds on a clock that waits for what the device was given to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on beside the code, for their report."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    peaks = {"fp32_peak_gflops": measure_peak(device) / 1e9}
    if device.type != "cpu" and made_for("bfloat16", device):
        peaks["bf16_peak_gflops"] = measure_peak(device, dtype=torch.bfloat16) / 1e9
    return {
        "device": device.type,
        "processor": name,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **peaks,
        "date": time.strftime("%Y-%m-%d"),
    }


def peak_of(about: Mapping[str, Any], precision: str) -> float:
    """FLOP/s of the best product in a precision; on a CPU of float32, as all shares there.

    Args:
        about: result of `machine`.
    """
    name = "bf16_peak_gflops" if precision == "bfloat16" else "fp32_peak_gflops"
    return 1e9 * about.get(name, about["fp32_peak_gflops"])
