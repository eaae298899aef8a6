"""The processes and devices of a run, through accelerate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor

from nextscale.config.run import TrainingConfig
from nextscale.errors import UsageError
from nextscale.machine.devices import best_device
from nextscale.machine.heap import keep_freed_memory
from nextscale.machine.instructions import EMULATED, can_compile, made_for
from nextscale.training.processes import Processes


class JoinedProcesses(Processes):
    """The processes that accelerate has joined.

    Args:
        accelerator: of the run.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__(accelerator.device)
        self.accelerator = accelerator
        self.index, self.count = accelerator.process_index, accelerator.num_processes
        self.sharded = accelerator.distributed_type == DistributedType.FSDP

    def sum(self, value: Tensor) -> Tensor:
        return cast(Tensor, self.accelerator.reduce(value, "sum"))

    def mean(self, value: Tensor) -> Tensor:
        return cast(Tensor, self.accelerator.reduce(value, "mean"))

    def maximum(self, value: Tensor) -> Tensor:
        return cast(Tensor, self.accelerator.reduce(value, "max"))

    def gather(self, value: Tensor) -> Tensor:
        return cast(Tensor, self.accelerator.gather(value))

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()


def start_accelerator(config: TrainingConfig) -> Accelerator:
    """Joins one process, or those that `torchrun` or `accelerate launch` started.

    Raises:
        UsageError: if the processes are distributed in an unsupported way, or the device lacks the
            precision.
    """
    keep_freed_memory()
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if made_for("bfloat16", best_device()) else "no"
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=not torch.accelerator.is_available(),  # otherwise torchrun's processes would not join
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
    """Lines on options that this machine cannot follow or only slowly."""
    lines = []
    if config.compile and not can_compile():
        lines.append(
            "no C++ compiler or no Python headers were found: training runs uncompiled, which is "
            "slower"
        )
    if accelerator.mixed_precision == "bf16" and not made_for("bfloat16", accelerator.device):
        advice = "--precision auto chooses what the device computes natively"
        lines.append(f"{EMULATED.format('bf16')}; {advice}")
    return lines


@contextmanager
def deterministic() -> Iterator[None]:
    """Uses deterministic kernels in this context; torch warns where it has none.

    Otherwise compiled code adds embedding gradients in the order in which its threads finish, and
    a resumed run differs from an uninterrupted one.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    was = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # its attribute is created at run time
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False  # costs time, finds only bugs
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warned)
        settings.fill_uninitialized_memory = filled


def seed_of(seed: int, micro_step: int, processes: Processes) -> int:
    """Seed of a process's micro-step; all seeds of a run differ."""
    mixed = (seed * 1_000_003 + micro_step) * processes.count
    return (mixed + processes.index) % 2**32
