"""What a run runs on: processes and devices, through accelerate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, DistributedType

from nextscale.config.run import TrainingConfig
from nextscale.errors import UsageError
from nextscale.machine.devices import best_device
from nextscale.machine.heap import keep_freed_memory
from nextscale.machine.instructions import EMULATED, can_compile, made_for


def start_accelerator(config: TrainingConfig) -> Accelerator:
    """The engine of a run: one process, or those that `torchrun` or `accelerate launch` started."""
    keep_freed_memory()
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if made_for("bfloat16", best_device()) else "no"
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=not torch.accelerator.is_available(),  # else torchrun's processes would not meet
        log_with="tensorboard",
        project_dir=config.out,
        gradient_accumulation_steps=1,  # the loop divides batches itself
    )
    if accelerator.distributed_type not in (
        DistributedType.NO,
        DistributedType.MULTI_CPU,
        DistributedType.MULTI_GPU,
        DistributedType.FSDP,
    ):
        raise UsageError(f"{accelerator.distributed_type} is not supported; use DDP or FSDP")
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise UsageError("precision fp16 needs a GPU; on a CPU give auto, bf16 or no")
    return accelerator


def shortcomings(config: TrainingConfig, accelerator: Accelerator) -> list[str]:
    """Lines on what was asked for and this machine lacks or does slowly."""
    lines = []
    if config.compile and not can_compile():
        lines.append(
            "no C++ compiler or no headers of Python are found: training goes on uncompiled, which "
            "is slower"
        )
    if accelerator.mixed_precision == "bf16" and not made_for("bfloat16", accelerator.device):
        advice = "precision auto takes what the device is made for"
        lines.append(f"{EMULATED.format('bf16')}; {advice}")
    return lines


@contextmanager
def deterministic() -> Iterator[None]:
    """Sums in the same order every time, where torch knows how; else it warns.

    Compiled code would add up embedding gradients in whatever order its threads come, and a
    resumed run would not equal an uninterrupted one.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    was = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # its attribute is made at run time
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False  # costs time, finds only bugs
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warned)
        settings.fill_uninitialized_memory = filled


def seed_of(seed: int, micro_step: int, accelerator: Accelerator) -> int:
    """Seed of a process's micro-step; no two of a run are equal."""
    mixed = (seed * 1_000_003 + micro_step) * accelerator.num_processes
    return (mixed + accelerator.process_index) % 2**32
