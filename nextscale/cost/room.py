"""Whether networks and batches have room in this machine's memory, before they are made."""

from collections.abc import Callable

import torch
from torch import nn

from nextscale.machine.memory import check_memory
from nextscale.models.model import Model

FLOAT = 4  # bytes of a float32
TRAINED = 4  # copies of the weights in training: themselves, gradients, two moments


def drawing_bytes(model: Model, batch: int, guided: bool) -> int:
    """Least memory in bytes that sampling a batch takes beside the weights.

    The keys and values of all tokens, and the logits of the largest step, once as they are and once
    filtered. What `nextscale estimate` predicts is exact and takes seconds.

    Args:
        batch: images sampled at once.
        guided: whether each image is sampled with and without its condition.
    """
    config, order = model.config, model.order
    itemsize = model.head.weight.itemsize
    cache = 2 * config.depth * len(order.levels) * config.width * itemsize
    cells = max(len(step.cells) for step in order.steps)
    return batch * (2 if guided else 1) * (cache + 2 * cells * model.head.out_features * FLOAT)


def check_drawing_room(model: Model, batch: int, guided: bool) -> None:
    """Raises UsageError if a batch has no room in this machine's memory, before it is sampled.

    An accelerator complains of its own memory.

    Args:
        batch, guided: as in `drawing_bytes`.
    """
    if model.head.weight.device.type == "cpu":
        needed = drawing_bytes(model, batch, guided)
        check_memory(needed, f"sampling {batch:,} images at once", "give a smaller batch")


def check_room(make: Callable[[], nn.Module], what: str, copies: int) -> None:
    """Raises UsageError if a network has no room in this machine's memory, before it is made.

    Args:
        make: builds it.
        what: would take the memory, for the complaint.
        copies: of the weights that are held on a CPU: themselves, gradients, moments.
    """
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        network = make()
    size = sum(weight.numel() * weight.itemsize for weight in network.parameters())
    held = 1 if torch.accelerator.is_available() else copies  # they are made on the CPU
    check_memory(held * size, what, "give a smaller width, depth, or number of codes")
