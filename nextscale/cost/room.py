"""Whether networks and batches have room in this machine's memory, before they are made."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nextscale.config.model import ModelConfig
from nextscale.machine.memory import check_memory
from nextscale.scales import areas, length

FLOAT = 4  # bytes of a float32
TRAINED = 4  # copies of the weights in training: themselves, gradients, two moments


def drawing_bytes(config: ModelConfig, batch: int, guided: bool, itemsize: int) -> int:
    """Least memory in bytes that drawing a batch takes beside the weights.

    The keys and values of all tokens, and the logits of the finest scale, once as they are and once
    filtered. What `nextscale estimate` predicts is exact and takes seconds.

    Args:
        config: of a checkpoint with a transformer.
        batch: images drawn at once.
        guided: whether each image is drawn with and without its class.
        itemsize: bytes of a number of the transformer's weights.
    """
    assert config.model is not None
    scales, codes = config.tokenizer.scales, config.tokenizer.codes
    cache = 2 * config.model.depth * length(scales) * config.model.width * itemsize
    drawn = areas(scales)[-1] if config.model.order == "scales" else 1  # tokens at once
    return batch * (2 if guided else 1) * (cache + 2 * drawn * codes * FLOAT)


def check_drawing_room(config: ModelConfig, batch: int, guided: bool, like: Tensor) -> None:
    """Raises UsageError if a batch has no room in this machine's memory, before it is drawn.

    Args:
        config, batch, guided: as in `drawing_bytes`.
        like: a weight of the transformer. An accelerator complains of its own memory.
    """
    if like.device.type == "cpu":
        needed = drawing_bytes(config, batch, guided, like.itemsize)
        check_memory(needed, f"drawing {batch:,} images at once", "give a smaller batch")


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
